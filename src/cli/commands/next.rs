//! Command `transship next [ENTRY…]`: prints the next scheduled runs of entries, from the configuration, the clock,
//! and the pauses and failures in the journal. The daemon need not run.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::cli::context::configuration;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;
use crate::cli::output::table::{Align, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::config::Entry;
use crate::journal::{FailureStreak, Journal, JournalError, PauseRecord};
use crate::schedule::{Schedule, backoff, jitter_of};

/// Arguments of `transship next`.
#[derive(Debug, clap::Args)]
pub struct Next {
    /// Entries to show; all by default
    #[arg(value_name = "ENTRY")]
    pub entries: Vec<String>,
    /// Number of scheduled runs to list
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Upcoming scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct UpcomingRun {
    /// Start of the run: the instant of its schedule plus its share of the jitter.
    at: DateTime<Utc>,
    entry: String,
    /// Instant that the schedule names.
    scheduled_at: DateTime<Utc>,
    schedule: String,
    timezone: String,
}

impl Next {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let entries = configuration::select_entries(&config, &self.entries)?;
        let held = match Held::read(&config.daemon.journal).await {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "cannot read pauses and failures from the journal: the runs of all entries are listed"
                );
                Held::default()
            }
        };
        self.print(&entries, &held, Utc::now(), &mut context.output)?;
        Ok(Exit::Ok)
    }

    fn print(&self, entries: &[&Entry], held: &Held, now: DateTime<Utc>, output: &mut Output) -> Result<(), Failure> {
        let upcoming =
            upcoming_runs(entries, now, self.count.into(), |entry| (held.pause(entry, now), held.streak(entry)));
        if self.json {
            return Ok(output.json(&upcoming)?);
        }
        if !upcoming.is_empty() {
            let mut table = Table::new(&[
                ("AT", Align::Left),
                ("IN", Align::Left),
                ("ENTRY", Align::Left),
                ("SCHEDULE", Align::Left),
            ]);
            for firing in upcoming {
                let wait = TimeDelta::seconds((firing.at - now).num_seconds()).to_std().unwrap_or_default();
                let wait = humantime::format_duration(wait).to_string();
                table.row([
                    units::moment(firing.at),
                    wait,
                    firing.entry,
                    format!("{} {}", firing.schedule, firing.timezone),
                ]);
            }
            output.table(&table)?;
        }
        for pause in entries.iter().filter_map(|entry| held.pause(entry, now)) {
            output.line(format!("{}: {}", pause.entry, units::pause(pause.since, pause.until)))?;
        }
        for entry in entries {
            let Some(streak) = held.streak(entry) else { continue };
            if let Some(until) = backed_off_until(entry, streak, now) {
                let (entry, failures, until) = (&streak.entry, streak.failures, units::moment(until));
                output.line(format!("{entry}: failed {failures} times in a row; backed off until {until}"))?;
            }
        }
        let by_hand = entries.iter().filter(|entry| entry.schedule == Schedule::Never);
        let by_hand: Vec<&str> = by_hand.map(|entry| entry.name.as_str()).collect();
        if !by_hand.is_empty() {
            output.line(format!("manual only: {}", by_hand.join(", ")))?;
        }
        Ok(())
    }
}

/// Pauses and failure streaks that prevent scheduled runs, from the journal.
#[derive(Debug, Default)]
struct Held {
    pauses: Vec<PauseRecord>,
    failures: Vec<FailureStreak>,
}

impl Held {
    /// Reads the journal. A missing journal prevents no run.
    async fn read(journal: &Path) -> Result<Self, JournalError> {
        match Journal::open_existing(journal) {
            Ok(journal) => Ok(Self { pauses: journal.pauses().await?, failures: journal.failure_streaks().await? }),
            Err(JournalError::Missing { .. }) => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Returns the entry's pause that has not ended.
    fn pause(&self, entry: &Entry, now: DateTime<Utc>) -> Option<&PauseRecord> {
        self.pauses.iter().find(|pause| pause.entry == entry.name.as_str() && pause.ended_at(now).is_none())
    }

    fn streak(&self, entry: &Entry) -> Option<&FailureStreak> {
        self.failures.iter().find(|streak| streak.entry == entry.name.as_str())
    }
}

/// Returns the end of an entry's back-off after failures, if the daemon skips at least one scheduled run because of
/// it.
pub(crate) fn backed_off_until(entry: &Entry, streak: &FailureStreak, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let until = backoff_end(streak, now).filter(|until| *until > now)?;
    let planned = scheduled_runs(entry, now).next()?;
    (planned.scheduled_at <= until).then_some(until)
}

/// Returns the end of the back-off during which the daemon skips the scheduled runs of an entry after failures, or
/// `None` if there is no back-off. A failure in the future was recorded before the clock was set back.
fn backoff_end(streak: &FailureStreak, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let wait = TimeDelta::from_std(backoff(streak.failures)).ok()?;
    (wait > TimeDelta::zero() && !streak.got_on).then(|| streak.last.min(now) + wait)
}

/// Returns the first `count` scheduled runs after `now`, ordered by instant, then by entry name. Runs during an
/// entry's pause or back-off are skipped.
fn upcoming_runs<'a>(
    entries: &[&Entry],
    now: DateTime<Utc>,
    count: usize,
    held: impl Fn(&Entry) -> (Option<&'a PauseRecord>, Option<&'a FailureStreak>),
) -> Vec<UpcomingRun> {
    let of_entry = |entry: &&Entry| {
        let (pause, streak) = held(entry);
        let paused_until = pause.and_then(|pause| pause.until);
        let is_endless = pause.is_some() && paused_until.is_none();
        let until = paused_until.max(streak.and_then(|streak| backoff_end(streak, now)));
        let fires = scheduled_runs(entry, now).take_while(move |_| !is_endless);
        fires
            .filter(move |coming| until.is_none_or(|until| coming.scheduled_at > until))
            .take(count)
            .collect::<Vec<_>>()
    };
    let mut all: Vec<UpcomingRun> = entries.iter().flat_map(of_entry).collect();
    all.sort();
    all.truncate(count);
    all
}

/// Returns the first start of an entry after `now`, and after its pause and its back-off.
pub(crate) fn first_upcoming(
    entry: &Entry,
    pause: Option<&PauseRecord>,
    streak: Option<&FailureStreak>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    upcoming_runs(&[entry], now, 1, |_| (pause, streak)).first().map(|coming| coming.at)
}

/// Returns the scheduled runs of one entry after `now`.
fn scheduled_runs(entry: &Entry, now: DateTime<Utc>) -> impl Iterator<Item = UpcomingRun> {
    let jitter = TimeDelta::from_std(jitter_of(entry.name.as_str(), entry.jitter)).unwrap_or_default();
    let after = move |instant: &DateTime<Utc>| entry.schedule.next_after(*instant, entry.timezone);
    // A run whose scheduled instant has passed may still wait for its share of the jitter.
    std::iter::successors(after(&(now - jitter)), after).map(move |scheduled_at| UpcomingRun {
        at: scheduled_at + jitter,
        entry: entry.name.to_string(),
        scheduled_at,
        schedule: entry.schedule.to_string(),
        timezone: entry.timezone.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::writer::tests::Paper;

    const CONFIG: &str = r#"
version: 1
sync:
  - {name: nightly, source: h.example/a, target: t.example/a, schedule: "0 3 * * *", timezone: Europe/Berlin}
  - {name: often, source: h.example/b, target: t.example/b, schedule: every 6h}
  - {name: late, source: h.example/c, target: t.example/c, schedule: "0 3 * * *", jitter: 1h}
  - {name: hand, source: h.example/d, target: t.example/d}
"#;

    fn printed(names: &[&str], count: u16, json: bool) -> String {
        printed_with(&Held::default(), names, count, json)
    }

    fn printed_with(held: &Held, names: &[&str], count: u16, json: bool) -> String {
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let entries: Vec<&Entry> = config.entries.iter().filter(|entry| names.contains(&entry.name.as_str())).collect();
        let paper = Paper::default();
        let now = "2026-05-10T00:30:00Z".parse().unwrap();
        Next { entries: Vec::new(), count, json }.print(&entries, held, now, &mut paper.output()).unwrap();
        paper.text()
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
        let pauses = Held { pauses: pauses.into(), failures: Vec::new() };
        let expected = "\
AT                    IN       ENTRY  SCHEDULE
2026-05-10T18:00:00Z  17h 30m  often  every 6h UTC
2026-05-11T00:00:00Z  23h 30m  often  every 6h UTC
nightly: paused since 2026-05-09T12:00:00Z
often: paused since 2026-05-09T12:00:00Z, until 2026-05-10T12:00:00Z
manual only: hand
";
        assert_eq!(printed_with(&pauses, &["nightly", "often", "hand"], 2, false), expected);
        let left = |name| printed_with(&pauses, &[name], 2, false) == printed(&[name], 2, false);
        assert_eq!(["late", "hand", "often"].map(left), [true, true, false], "an ended pause changes nothing");
    }

    #[test]
    fn runs_during_back_off_are_skipped_and_the_back_off_shown() {
        let at = |time: &str| format!("2026-05-10T{time}:00Z").parse::<DateTime<Utc>>().unwrap();
        let streak =
            |entry: &str, failures| FailureStreak { entry: entry.into(), failures, last: at("00:15"), got_on: false };
        // The back-off lasts an hour. It skips the run of `nightly` at 01:00, and not the run of `often` at 06:00.
        let held =
            Held { pauses: Vec::new(), failures: vec![streak("nightly", 9), streak("often", 9), streak("late", 1)] };
        let expected = "\
AT                    IN        ENTRY    SCHEDULE
2026-05-11T01:00:00Z  1day 30m  nightly  0 3 * * * Europe/Berlin
nightly: failed 9 times in a row; backed off until 2026-05-10T01:15:00Z
";
        assert_eq!(printed_with(&held, &["nightly"], 1, false), expected);
        assert_eq!(printed_with(&held, &["often"], 1, false), printed(&["often"], 1, false));
        let got_on = Held { failures: vec![FailureStreak { got_on: true, ..streak("nightly", 9) }], ..Held::default() };
        assert_eq!(printed_with(&got_on, &["nightly"], 1, false), printed(&["nightly"], 1, false));
        assert_eq!(
            printed_with(&held, &["late"], 2, false),
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
            assert_eq!(json[at]["scheduled_at"], serde_json::json!(scheduled));
            assert_eq!(json[at]["at"], serde_json::json!(scheduled + jitter));
        }
    }
}
