//! `transship next [ENTRY…]`: when entries will run by themselves. Offline: by the configuration and the clock alone.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::start::Context;
use super::table::{Align, Table};
use super::{configuration, units};
use crate::config::Entry;
use crate::schedule::{Schedule, jitter_of};

/// The arguments of `transship next`.
#[derive(Debug, clap::Args)]
pub struct Next {
    /// The entries; all of them by default
    #[arg(value_name = "ENTRY")]
    pub entries: Vec<String>,
    /// How many firings to list
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One coming firing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Coming {
    /// When the entry runs: the instant of its schedule and its share of the jitter.
    at: DateTime<Utc>,
    entry: String,
    /// The instant that the schedule names.
    scheduled_at: DateTime<Utc>,
    schedule: String,
    timezone: String,
}

impl Next {
    pub(super) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        let entries = configuration::chosen(&config, &self.entries)?;
        self.print(&entries, Utc::now(), &mut context.output)?;
        Ok(Exit::Ok)
    }

    fn print(&self, entries: &[&Entry], now: DateTime<Utc>, output: &mut Output) -> Result<(), Failure> {
        let coming = coming(entries, now, self.count.into());
        if self.json {
            return Ok(output.json(&coming)?);
        }
        if !coming.is_empty() {
            let mut table = Table::new(&[
                ("AT", Align::Left),
                ("IN", Align::Left),
                ("ENTRY", Align::Left),
                ("SCHEDULE", Align::Left),
            ]);
            for firing in coming {
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
        let by_hand = entries.iter().filter(|entry| entry.schedule == Schedule::Never);
        let by_hand: Vec<&str> = by_hand.map(|entry| entry.name.as_str()).collect();
        if !by_hand.is_empty() {
            output.line(format!("by hand only: {}", by_hand.join(", ")))?;
        }
        Ok(())
    }
}

/// The first so many firings after `now`, in the order of their instants, then of the entries' names.
fn coming(entries: &[&Entry], now: DateTime<Utc>, count: usize) -> Vec<Coming> {
    let mut all: Vec<Coming> = entries.iter().flat_map(|entry| firings(entry, now).take(count)).collect();
    all.sort();
    all.truncate(count);
    all
}

/// The firings of one entry after `now`.
fn firings(entry: &Entry, now: DateTime<Utc>) -> impl Iterator<Item = Coming> {
    let jitter = TimeDelta::from_std(jitter_of(entry.name.as_str(), entry.jitter)).unwrap_or_default();
    let after = move |instant: &DateTime<Utc>| entry.schedule.next_after(*instant, entry.timezone);
    // One whose instant has passed may still wait for its share of the jitter.
    std::iter::successors(after(&(now - jitter)), after).map(move |scheduled_at| Coming {
        at: scheduled_at + jitter,
        entry: entry.name.to_string(),
        scheduled_at,
        schedule: entry.schedule.to_string(),
        timezone: entry.timezone.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Paper;
    use super::*;

    const CONFIG: &str = r#"
version: 1
sync:
  - {name: nightly, source: h.example/a, target: t.example/a, schedule: "0 3 * * *", timezone: Europe/Berlin}
  - {name: often, source: h.example/b, target: t.example/b, schedule: every 6h}
  - {name: late, source: h.example/c, target: t.example/c, schedule: "0 3 * * *", jitter: 1h}
  - {name: hand, source: h.example/d, target: t.example/d}
"#;

    fn printed(names: &[&str], count: u16, json: bool) -> String {
        let config = crate::config::parse("sync.yaml", CONFIG, &|_| Some("/tmp".into())).unwrap();
        let entries: Vec<&Entry> = config.entries.iter().filter(|entry| names.contains(&entry.name.as_str())).collect();
        let paper = Paper::default();
        let now = "2026-05-10T00:30:00Z".parse().unwrap();
        Next { entries: Vec::new(), count, json }.print(&entries, now, &mut paper.output()).unwrap();
        paper.text()
    }

    #[test]
    fn firings_of_all_entries_are_listed_as_they_come() {
        let expected = "\
AT                    IN        ENTRY    SCHEDULE
2026-05-10T01:00:00Z  30m       nightly  0 3 * * * Europe/Berlin
2026-05-10T06:00:00Z  5h 30m    often    every 6h UTC
2026-05-10T12:00:00Z  11h 30m   often    every 6h UTC
2026-05-10T18:00:00Z  17h 30m   often    every 6h UTC
2026-05-11T00:00:00Z  23h 30m   often    every 6h UTC
2026-05-11T01:00:00Z  1day 30m  nightly  0 3 * * * Europe/Berlin
by hand only: hand
";
        assert_eq!(printed(&["nightly", "often", "hand"], 6, false), expected);
        assert_eq!(printed(&["hand"], 6, false), "by hand only: hand\n");
    }

    #[test]
    fn an_entry_runs_later_by_its_share_of_the_jitter() {
        let json: serde_json::Value = serde_json::from_str(&printed(&["late"], 2, true)).unwrap();
        let jitter = TimeDelta::from_std(jitter_of("late", std::time::Duration::from_secs(3600))).unwrap();
        for (at, day) in [(0, 10), (1, 11)] {
            let scheduled: DateTime<Utc> = format!("2026-05-{day}T03:00:00Z").parse().unwrap();
            assert_eq!(json[at]["scheduled_at"], serde_json::json!(scheduled));
            assert_eq!(json[at]["at"], serde_json::json!(scheduled + jitter));
        }
    }
}
