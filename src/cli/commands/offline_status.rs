//! Offline status: the status of the entries if no daemon responds. The journal contains the last runs, the failure
//! streaks and the pauses. The configuration contains the schedules.

use std::collections::HashMap;
use std::io;

use chrono::{DateTime, Utc};

use crate::cli::context::configuration::entry_names;
use crate::cli::context::entry_pattern::{EntryPattern, select_names};
use crate::cli::context::upcoming_runs::{backed_off_until, first_upcoming};
use crate::cli::exit::Failure;
use crate::cli::output::snapshot::{NONE_WHILE_PAUSED, last_error};
use crate::cli::output::table::{Cell, Column, Table};
use crate::cli::output::writer::Output;
use crate::config::{Config, Entry};
use crate::journal::{FailureStreak, Journal, JournalError, PauseRecord, RunRecord};

/// Prints the offline status. If there is no journal, the status contains only the entries and their next runs.
pub(super) async fn print(
    config: &Config,
    patterns: &[EntryPattern],
    now: DateTime<Utc>,
    output: &mut Output,
) -> Result<(), Failure> {
    let (mut status, known) = match Journal::open_existing(&config.daemon.journal) {
        Ok(journal) => {
            (OfflineStatus::read(&journal).await?, "last runs in the journal, and next scheduled runs:".to_owned())
        }
        Err(error @ JournalError::Missing { .. }) => {
            (OfflineStatus::default(), format!("{error}; next scheduled runs:"))
        }
        Err(error) => return Err(error.into()),
    };
    let entries = status.restrict(config, patterns)?;
    output.line(format!("{known}\n"))?;
    Ok(status.print(&entries, now, output)?)
}

/// Records of the journal for the offline status. If there is no journal, all lists are empty.
#[derive(Debug, Default)]
struct OfflineStatus {
    runs: Vec<RunRecord>,
    failures: HashMap<String, FailureStreak>,
    pauses: Vec<PauseRecord>,
}

impl OfflineStatus {
    async fn read(journal: &Journal) -> Result<Self, JournalError> {
        let streaks = journal.failure_streaks().await?;
        let failures = streaks.into_iter().map(|streak| (streak.entry.clone(), streak)).collect();
        Ok(Self { runs: journal.last_runs().await?, failures, pauses: journal.pauses().await? })
    }

    /// Removes the runs of entries that the patterns do not select. Returns the selected entries of the configuration.
    fn restrict(&mut self, config: &Config, patterns: &[EntryPattern]) -> Result<Vec<Entry>, Failure> {
        let mut names = entry_names(config);
        names.extend(
            self.runs
                .iter()
                .map(|run| run.entry.as_str())
                .filter(|name| config.entries.iter().all(|entry| entry.name.as_str() != *name)),
        );
        let selected: Vec<String> = select_names(patterns, &names)?.into_iter().map(str::to_owned).collect();
        self.runs.retain(|run| selected.contains(&run.entry));
        let is_selected = |entry: &&Entry| selected.iter().any(|name| name == entry.name.as_str());
        Ok(config.entries.iter().filter(is_selected).cloned().collect())
    }

    /// Prints one table row for each entry of the configuration, and then one row for each entry that only the journal
    /// contains.
    fn print(&self, entries: &[Entry], now: DateTime<Utc>, output: &mut Output) -> io::Result<()> {
        let mut table = Table::new(&[
            Column::left("ENTRY"),
            Column::left("LAST RUN"),
            Column::left("OUTCOME"),
            Column::left("TAGS"),
            Column::left("NEXT RUN"),
        ]);
        for entry in entries {
            table.row(self.row(entry.name.as_str(), self.next(entry, now), now));
        }
        let is_known = |run: &&RunRecord| entries.iter().any(|entry| entry.name.as_str() == run.entry);
        for run in self.runs.iter().filter(|run| !is_known(run)) {
            table.row(self.row(&run.entry, "not in the configuration".into(), now));
        }
        output.table(&table)?;
        let times = output.times(now);
        for pause in entries.iter().filter_map(|entry| self.pause(entry, now)) {
            output.counts_line(format!("{}: {}", pause.entry, times.pause(pause.since, pause.until)))?;
        }
        for run in &self.runs {
            if let Some(error) = &run.error {
                let streak = self.failures.get(&run.entry);
                let entry = entries.iter().find(|entry| entry.name.as_str() == run.entry);
                let backed_off = entry.zip(streak).and_then(|(entry, streak)| backed_off_until(entry, streak, now));
                output.line(last_error(
                    &run.entry,
                    error,
                    streak.map_or(0, |streak| streak.failures),
                    backed_off,
                    times,
                ))?;
            }
        }
        Ok(())
    }

    fn row(&self, name: &str, next: Cell, now: DateTime<Utc>) -> [Cell; 5] {
        let run = self.runs.iter().find(|run| run.entry == name);
        let [last, outcome, tags] = match run {
            None => ["none yet".into(), Cell::default(), Cell::default()],
            Some(run) => {
                let outcome = run.outcome.map_or("not ended", |outcome| outcome.word());
                let last = Cell::time(run.ended.unwrap_or(run.started), now);
                [last, Cell::outcome(outcome), Cell::counts(run.tags)]
            }
        };
        [name.into(), last, outcome, tags, next]
    }

    /// Returns the active pause of an entry.
    fn pause(&self, entry: &Entry, now: DateTime<Utc>) -> Option<&PauseRecord> {
        self.pauses.iter().find(|pause| pause.entry == entry.name.as_str() && pause.ended_at(now).is_none())
    }

    fn next(&self, entry: &Entry, now: DateTime<Utc>) -> Cell {
        let pause = self.pause(entry, now);
        match (first_upcoming(entry, pause, self.failures.get(entry.name.as_str()), now), pause) {
            (Some(next), _) => Cell::time(next, now),
            (None, Some(_)) => NONE_WHILE_PAUSED.into(),
            (None, None) => "manual only".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::journal::{Outcome, RunEnd, RunStart, TagCounts, Trigger};

    const CONFIG: &str = r#"
version: 1
sync:
  - {name: nightly, source: h.example/a, target: t.example/a, schedule: "0 3 * * *"}
  - {name: paused, source: h.example/b, target: t.example/b, schedule: every 6h}
  - {name: hand, source: h.example/c, target: t.example/c}
"#;

    #[tokio::test]
    async fn table_shows_last_runs_failures_pauses_and_next_runs() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let at = |time: &str| format!("2026-05-{time}:00Z").parse::<DateTime<Utc>>().unwrap();
        for (entry, time, error) in [
            ("nightly", "08T03:00", Some("source: listing tags: denied")),
            ("nightly", "09T03:00", Some("source: listing tags: denied")),
            ("gone", "09T04:00", None),
        ] {
            let begun = journal.begin_run(entry, Trigger::Start, at(time)).await.unwrap();
            let RunStart::Started(run) = begun else { panic!("{begun:?}") };
            let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Succeeded };
            let tags = TagCounts { unchanged: 2, ..TagCounts::default() };
            let end = RunEnd { outcome, tags, bytes: 0, error: error.map(str::to_owned), deferred_until: None };
            journal.end_run(run, end, at(time)).await.unwrap();
        }
        let until = Some(at("10T12:00"));
        let pause = PauseRecord { entry: "paused".into(), since: at("09T12:00"), until, ended: None };
        journal.record_pause(pause).await.unwrap();
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let buffer = OutputBuffer::default();
        let status = OfflineStatus::read(&journal).await.unwrap();
        status.print(&config.entries, at("10T00:30"), &mut buffer.terminal(80)).unwrap();
        let expected = "\
ENTRY    LAST RUN  OUTCOME    TAGS         NEXT RUN
nightly  22h ago   failed     2 unchanged  in 3h
paused   none yet                          in 18h
hand     none yet                          manual only
gone     21h ago   succeeded  2 unchanged  not in the configuration
paused: paused for 13h, for another 12h
nightly: source: listing tags: denied (2 times in a row)
";
        assert_eq!(buffer.text(), expected);
        // The back-off lasts two minutes. The daemon skips the scheduled runs in these two minutes.
        let buffer = OutputBuffer::default();
        let text = CONFIG.replace("0 3 * * *", "* * * * *");
        let config = crate::config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap();
        status.print(&config.entries, at("09T03:00"), &mut buffer.output()).unwrap();
        let (shown, ending) = (buffer.text(), "(2 times in a row; backed off until 2026-05-09T03:02:00Z)\n");
        assert!(shown.contains("2 unchanged\t2026-05-09T03:03:00Z\n") && shown.ends_with(ending), "{shown}");
    }

    #[tokio::test]
    async fn missing_journal_leaves_only_the_next_runs() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "version: 1\ndaemon: {{journal: {}/journal.db}}\nsync:\n\
             - {{name: a, source: h.example/a, target: t.example/a, schedule: \"0 3 * * *\"}}\n",
            folder.path().display()
        );
        let config = crate::config::parse("f", &text, &|_| Some("/t".into())).unwrap();
        let buffer = OutputBuffer::default();
        print(&config, &[], DateTime::from_timestamp(1_800_000_000, 0).unwrap(), &mut buffer.output()).await.unwrap();
        let (known, rest) = buffer.text().split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(known.ends_with("; next scheduled runs:"), "{known}");
        assert_eq!(rest, "ENTRY\tLAST RUN\tOUTCOME\tTAGS\tNEXT RUN\na\tnone yet\t\t\t2027-01-16T03:00:00Z\n");
    }
}
