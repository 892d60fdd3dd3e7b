//! Command `transship history`: prints the runs in the journal. The latest run comes first.

use std::collections::HashSet;
use std::io;

use chrono::{DateTime, Utc};

use crate::cli::context::configuration::{self, RecordedRuns};
use crate::cli::context::filter::Filter;
use crate::cli::context::invocation::Context;
use crate::cli::context::watch;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Cell, Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::journal::{EvidenceFilter, HistoryFilter, Journal, RunId, RunRecord};

/// Arguments of `transship history`.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Filter of the runs.
    #[command(flatten)]
    pub filter: Filter,
    /// Show only runs that failed or timed out
    #[arg(long)]
    pub failed: bool,
    /// Show the runs again every 2 seconds, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl History {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let recorded = configuration::recorded_runs(self.filter.journal.as_deref(), &context.global)?;
        if self.watch {
            return watch::repeat(context, async |output| self.show(&recorded, output).await).await;
        }
        self.show(&recorded, &mut context.output).await
    }

    async fn show(&self, recorded: &RecordedRuns, output: &mut Output) -> Result<Exit, Failure> {
        let (journal, entries) = (&recorded.journal, recorded.select(&self.filter.entries).await?);
        let (now, window) = (Utc::now(), self.filter.window(!self.json));
        let filter = HistoryFilter { failed: self.failed, ..self.filter.history_filter(entries, now, window) };
        let mut runs = journal.history(&filter).await?;
        if let Some(found) = self.runs_with_content(journal).await? {
            runs.retain(|run| found.contains(&run.id));
        }
        let more = window.truncate(&mut runs);
        if self.json {
            output.json(&runs)?;
        } else {
            print(&runs, now, output)?;
            if more {
                output.line("earlier runs exist: show them with --limit, --until or --json")?;
            }
        }
        Ok(Exit::Ok)
    }
}

impl History {
    /// Returns the runs that copied the selected content. If the arguments select no repository, tag or digest, returns
    /// `None`.
    async fn runs_with_content(&self, journal: &Journal) -> Result<Option<HashSet<RunId>>, Failure> {
        if !self.filter.is_about_content() {
            return Ok(None);
        }
        let (reference, digest) = (self.filter.reference.clone(), self.filter.digest.clone());
        let wanted = EvidenceFilter { reference, digest, ..EvidenceFilter::default() };
        Ok(Some(journal.evidence(&wanted).await?.iter().map(|record| record.run).collect()))
    }
}

pub(crate) fn print(runs: &[RunRecord], now: DateTime<Utc>, output: &mut Output) -> io::Result<()> {
    if runs.is_empty() {
        return output.line("no runs");
    }
    let mut table = Table::new(&[
        Column::right("RUN"),
        Column::left("ENTRY"),
        Column::left("TRIGGER").optional(),
        Column::left("STARTED"),
        Column::left("TOOK").optional(),
        Column::left("OUTCOME"),
        Column::left("TAGS"),
        Column::right("BYTES"),
    ]);
    for run in runs {
        table.row([
            run.id.to_string().into(),
            run.entry.clone().into(),
            run.trigger.word().into(),
            Cell::time(run.started, now),
            run.ended.map(|ended| units::between(run.started, ended)).unwrap_or_default().into(),
            Cell::outcome(run.outcome.map_or("running", |outcome| outcome.word())),
            Cell::counts(run.tags),
            units::bytes(run.bytes).into(),
        ]);
    }
    output.table(&table)?;
    for run in runs {
        if let Some(error) = &run.error {
            output.line(format!("run {}: {error}", run.id))?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::copy::event::{Arrival, BlobCounts};
    use crate::journal::{Outcome, RunEnd, RunStart, TagCounts, Trigger};
    use crate::oci::{Digest, MediaType};

    fn time_at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// Creates a journal with two runs. The first run copied `v1` of `t/a`, and the second run failed.
    pub(crate) async fn journal_of_two_runs(folder: &std::path::Path) -> Journal {
        let journal = Journal::open_at(&folder.join("journal.db"), time_at(0)).unwrap();
        for (number, error) in [(0, None), (1, Some("source h/a: listing tags: denied".to_owned()))] {
            let started = time_at(number * 60);
            let begun = journal.begin_run("api", Trigger::Manual, started).await.unwrap();
            let RunStart::Started(run) = begun else { panic!("{begun:?}") };
            if error.is_none() {
                journal.record_arrival(run, "api", &arrival()).await.unwrap();
            }
            let outcome = if error.is_none() { Outcome::Succeeded } else { Outcome::Failed };
            let tags = TagCounts { copied: u64::from(error.is_none()), ..TagCounts::default() };
            let end = RunEnd { outcome, tags, bytes: 2048, error, deferred_until: None };
            journal.end_run(run, end, started + TimeDelta::seconds(15)).await.unwrap();
        }
        journal
    }

    fn arrival() -> Arrival {
        Arrival {
            kind: crate::copy::event::ArrivalKind::Tag,
            listed: Vec::new(),
            source: "h/a".into(),
            source_reference: crate::oci::ManifestRef::Tag("v1".parse().unwrap()),
            source_digest: Digest::of(b"v1"),
            target: "t/a".into(),
            tag: Some("v1".parse().unwrap()),
            digest: Digest::of(b"v1"),
            previous: Some(Digest::of(b"v0")),
            media_type: MediaType::new(MediaType::OCI_MANIFEST),
            manifests: 1,
            blobs: BlobCounts { copied: 2, mounted: 1, found: 0 },
            bytes: 2048,
            source_identity: "anonymous".into(),
            target_identity: "robot, \"the\" first".into(),
            left_behind: Vec::new(),
            started: time_at(1),
            ended: time_at(2),
        }
    }

    #[tokio::test]
    async fn latest_runs_come_first_with_full_errors() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_of_two_runs(folder.path()).await;
        let runs = journal.history(&HistoryFilter::default()).await.unwrap();
        let buffer = OutputBuffer::default();
        print(&runs, time_at(180), &mut buffer.terminal(80)).unwrap();
        let expected = "RUN  ENTRY  TRIGGER  STARTED  TOOK  OUTCOME    TAGS        BYTES\n  \
                        2  api    manual   2m ago   15s   failed     no tags   2.0 KiB\n  \
                        1  api    manual   3m ago   15s   succeeded  1 copied  2.0 KiB\n\
                        run 2: source h/a: listing tags: denied\n";
        assert_eq!(buffer.text(), expected);
        let pipe = OutputBuffer::default();
        print(&runs, time_at(180), &mut pipe.output()).unwrap();
        let row = "1\tapi\tmanual\t2027-01-15T08:00:00Z\t15s\tsucceeded\t1 copied\t2.0 KiB";
        assert_eq!(pipe.text().lines().nth(2), Some(row));
    }

    #[tokio::test]
    async fn runs_are_found_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal_of_two_runs(folder.path()).await;
        let runs_with_content = async |reference: Option<&str>, digest: Option<Digest>| {
            let filter =
                Filter { reference: reference.map(str::to_owned), digest: digest.map(Into::into), ..Filter::default() };
            let found =
                History { filter, failed: false, watch: false, json: false }.runs_with_content(&journal).await.unwrap();
            found.map(|runs| runs.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(runs_with_content(None, None).await, None);
        assert_eq!(runs_with_content(Some("t/a:v1"), None).await, Some(vec!["1".to_owned()]));
        assert_eq!(runs_with_content(None, Some(Digest::of(b"v1"))).await, Some(vec!["1".to_owned()]));
        assert_eq!(runs_with_content(Some("t/b"), None).await, Some(vec![]));
    }
}
