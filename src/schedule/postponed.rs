//! Entries whose last run left tags for later, and when each is to go on. It starts nothing and reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::jitter_of;

/// The entries that are to go on by themselves, beside their schedules.
#[derive(Debug, Clone, Default)]
pub struct Postponed {
    entries: BTreeMap<String, DateTime<Utc>>,
}

impl Postponed {
    /// Notes that the run of an entry that `ended` is to go on at `until`: up to a quarter of that time later, each entry at another
    /// instant, so that those who wait for one registry do not come at once.
    pub fn set(&mut self, entry: &str, ended: DateTime<Utc>, until: DateTime<Utc>) {
        let wait = (until - ended).to_std().unwrap_or(Duration::ZERO);
        let jitter = TimeDelta::from_std(jitter_of(entry, wait / 4)).unwrap_or_default();
        self.entries.insert(entry.to_owned(), until + jitter);
    }

    /// Follows a clock that was set back `by` so much: who waits does not wait longer for it.
    pub fn set_back(&mut self, by: TimeDelta) {
        for instant in self.entries.values_mut() {
            *instant = instant.checked_sub_signed(by).unwrap_or(*instant);
        }
    }

    /// The entry runs, or is gone.
    pub fn remove(&mut self, entry: &str) {
        self.entries.remove(entry);
    }

    /// Forgets all but these.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.entries.retain(|entry, _| stays(entry));
    }

    /// When an entry goes on, if it is to.
    #[must_use]
    pub fn at(&self, entry: &str) -> Option<DateTime<Utc>> {
        self.entries.get(entry).copied()
    }

    /// The entries that are to go on at `now`, the one that waits longest first. Each is told once.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<String> {
        let is_due = |(_, at): &(&String, &DateTime<Utc>)| **at <= now;
        let mut due: Vec<(DateTime<Utc>, String)> =
            self.entries.iter().filter(is_due).map(|(entry, at)| (*at, entry.clone())).collect();
        due.sort();
        self.entries.retain(|_, at| *at > now);
        due.into_iter().map(|(_, entry)| entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        "2026-05-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minute)
    }

    #[test]
    fn what_is_postponed_goes_on_once_and_not_before_its_time() {
        let mut postponed = Postponed::default();
        for entry in ["a", "b", "c"] {
            postponed.set(entry, at(0), at(30));
        }
        postponed.set("soon", at(0), at(1));
        postponed.remove("c");
        assert!(postponed.due(at(0)).is_empty());
        let instants = ["a", "b"].map(|entry| postponed.at(entry).unwrap());
        assert!(instants.iter().all(|instant| (at(30)..at(38)).contains(instant)), "{instants:?}");
        assert_ne!(instants[0], instants[1]);
        assert_eq!(postponed.due(at(29)), ["soon"]);
        let mut due = postponed.due(at(38));
        due.sort();
        assert_eq!(due, ["a", "b"]);
        assert!(postponed.due(at(99)).is_empty());
    }
    #[test]
    fn postponed_entry_waits_no_longer_when_the_clock_is_set_back() {
        let mut postponed = Postponed::default();
        postponed.set("a", at(0), at(1));
        let before = postponed.at("a").unwrap();
        postponed.set_back(TimeDelta::hours(8));
        assert_eq!(postponed.at("a"), Some(before - TimeDelta::hours(8)));
    }
}
