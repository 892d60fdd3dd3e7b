//! Command `transship next [ENTRY…]`: prints the next scheduled runs of entries. The command reads the configuration
//! and the journal, and needs no running daemon.

use chrono::{DateTime, TimeDelta, Utc};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::context::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::context::upcoming_runs::{RunObstacles, backed_off_until, upcoming_runs};
use crate::cli::context::{completion, configuration};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::config::Entry;
use crate::schedule::Schedule;

/// Arguments of `transship next`.
#[derive(Debug, clap::Args)]
pub struct Next {
    /// Entries to show, by name or by glob ("app-*"); all by default
    #[arg(value_name = "ENTRY", add = ArgValueCompleter::new(completion::entries))]
    pub entries: Vec<EntryPattern>,
    /// Number of scheduled runs to list
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Next {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let entries = configuration::select_entries(&config, &self.entries)?;
        let obstacles = match RunObstacles::read(&config.daemon.journal).await {
            Ok(obstacles) => obstacles,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "cannot read pauses and failures from the journal: the runs of all entries are listed"
                );
                RunObstacles::default()
            }
        };
        self.print(&entries, &obstacles, Utc::now(), &mut context.output)?;
        Ok(Exit::Ok)
    }

    fn print(
        &self,
        entries: &[&Entry],
        obstacles: &RunObstacles,
        now: DateTime<Utc>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let upcoming = upcoming_runs(entries, now, self.limit.into(), |entry| {
            (obstacles.pause(entry, now), obstacles.streak(entry))
        });
        if self.json {
            return Ok(output.json(&upcoming)?);
        }
        if !upcoming.is_empty() {
            let columns =
                [Column::left("AT"), Column::left("IN"), Column::left("ENTRY"), Column::left("SCHEDULE").optional()];
            let mut table = Table::new(&columns);
            for run in upcoming {
                let wait = TimeDelta::seconds((run.at - now).num_seconds()).to_std().unwrap_or_default();
                let wait = humantime::format_duration(wait).to_string();
                table.row([units::moment(run.at), wait, run.entry, format!("{} {}", run.schedule, run.timezone)]);
            }
            output.table(&table)?;
        }
        let times = output.times(now);
        for pause in entries.iter().filter_map(|entry| obstacles.pause(entry, now)) {
            output.line(format!("{}: {}", pause.entry, times.pause(pause.since, pause.until)))?;
        }
        for entry in entries {
            let Some(streak) = obstacles.streak(entry) else { continue };
            if let Some(until) = backed_off_until(entry, streak, now) {
                let (entry, failures, until) = (&streak.entry, streak.failures, times.until(until));
                output.counts_line(format!("{entry}: failed {failures} times in a row; backed off {until}"))?;
            }
        }
        let manual = entries.iter().filter(|entry| entry.schedule == Schedule::Never);
        let manual: Vec<&str> = manual.map(|entry| entry.name.as_str()).collect();
        if !manual.is_empty() {
            output.line(format!("manual only: {}", manual.join(", ")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::journal::{FailureStreak, PauseRecord};
    use crate::schedule::jitter_of;

    const CONFIG: &str = r#"
version: 1
sync:
  - {name: nightly, source: h.example/a, target: t.example/a, schedule: "0 3 * * *", timezone: Europe/Berlin}
  - {name: often, source: h.example/b, target: t.example/b, schedule: every 6h}
  - {name: late, source: h.example/c, target: t.example/c, schedule: "0 3 * * *", jitter: 1h}
  - {name: hand, source: h.example/d, target: t.example/d}
"#;

    fn printed(names: &[&str], count: u16, json: bool) -> String {
        printed_with(&RunObstacles::default(), names, count, json)
    }

    fn printed_with(obstacles: &RunObstacles, names: &[&str], count: u16, json: bool) -> String {
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let entries: Vec<&Entry> = config.entries.iter().filter(|entry| names.contains(&entry.name.as_str())).collect();
        let buffer = OutputBuffer::default();
        let now = "2026-05-10T00:30:00Z".parse().unwrap();
        Next { entries: Vec::new(), limit: count, json }
            .print(&entries, obstacles, now, &mut buffer.terminal(80))
            .unwrap();
        buffer.text()
    }

    #[test]
    fn scheduled_runs_of_all_entries_are_listed_in_order() {
        let expected = "\
AT                    IN        ENTRY    SCHEDULE
2026-05-10T01:00:00Z  30m       nightly  0 3 * * * Europe/Berlin
2026-05-10T06:00:00Z  5h 30m    often    every 6h UTC
2026-05-10T12:00:00Z  11h 30m   often    every 6h UTC
2026-05-10T18:00:00Z  17h 30m   often    every 6h UTC
2026-05-11T00:00:00Z  23h 30m   often    every 6h UTC
2026-05-11T01:00:00Z  1day 30m  nightly  0 3 * * * Europe/Berlin
manual only: hand
";
        assert_eq!(printed(&["nightly", "often", "hand"], 6, false), expected);
        assert_eq!(printed(&["hand"], 6, false), "manual only: hand\n");
    }

    #[test]
    fn runs_during_a_pause_are_skipped_and_the_pause_shown() {
        let at = |time: &str| format!("2026-05-{time}:00Z").parse::<DateTime<Utc>>().unwrap();
        let pause =
            |entry: &str, until, ended| PauseRecord { entry: entry.into(), since: at("09T12:00"), until, ended };
        let pauses = [
            pause("nightly", None, None),
            pause("often", Some(at("10T12:00")), None),
            pause("hand", Some(at("09T13:00")), None),
            pause("late", None, Some(at("09T13:00"))),
        ];
        let pauses = RunObstacles { pauses: pauses.into(), failures: Vec::new() };
        let expected = "\
AT                    IN       ENTRY  SCHEDULE
2026-05-10T18:00:00Z  17h 30m  often  every 6h UTC
2026-05-11T00:00:00Z  23h 30m  often  every 6h UTC
nightly: paused for 13h
often: paused for 13h, for another 12h
manual only: hand
";
        assert_eq!(printed_with(&pauses, &["nightly", "often", "hand"], 2, false), expected);
        let left = |name| printed_with(&pauses, &[name], 2, false) == printed(&[name], 2, false);
        assert_eq!(["late", "hand", "often"].map(left), [true, true, false], "an ended pause changes nothing");
    }

    #[test]
    fn runs_during_back_off_are_skipped_and_the_back_off_shown() {
        let at = |time: &str| format!("2026-05-10T{time}:00Z").parse::<DateTime<Utc>>().unwrap();
        let streak = |entry: &str, failures| FailureStreak {
            entry: entry.into(),
            failures,
            last: at("00:15"),
            made_progress: false,
        };
        // The back-off of `nightly` ends after one hour, so the daemon skips only the run at 01:00.
        let obstacles = RunObstacles {
            pauses: Vec::new(),
            failures: vec![streak("nightly", 9), streak("often", 9), streak("late", 1)],
        };
        let expected = "\
AT                    IN        ENTRY    SCHEDULE
2026-05-11T01:00:00Z  1day 30m  nightly  0 3 * * * Europe/Berlin
nightly: failed 9 times in a row; backed off for another 45m
";
        assert_eq!(printed_with(&obstacles, &["nightly"], 1, false), expected);
        assert_eq!(printed_with(&obstacles, &["often"], 1, false), printed(&["often"], 1, false));
        let made_progress = RunObstacles {
            failures: vec![FailureStreak { made_progress: true, ..streak("nightly", 9) }],
            ..RunObstacles::default()
        };
        assert_eq!(printed_with(&made_progress, &["nightly"], 1, false), printed(&["nightly"], 1, false));
        assert_eq!(
            printed_with(&obstacles, &["late"], 2, false),
            printed(&["late"], 2, false),
            "a single failure causes no back-off"
        );
    }

    #[test]
    fn entry_starts_later_by_its_share_of_the_jitter() {
        let json: serde_json::Value = serde_json::from_str(&printed(&["late"], 2, true)).unwrap();
        let jitter = TimeDelta::from_std(jitter_of("late", std::time::Duration::from_secs(3600))).unwrap();
        for (at, day) in [(0, 10), (1, 11)] {
            let scheduled: DateTime<Utc> = format!("2026-05-{day}T03:00:00Z").parse().unwrap();
            assert_eq!(json[at]["scheduled_at"], crate::json_form::format_instant(scheduled));
            assert_eq!(json[at]["at"], crate::json_form::format_instant(scheduled + jitter));
        }
    }
}
