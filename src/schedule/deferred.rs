//! Entries whose last run deferred tags, and the time at which the daemon runs each entry again. This module starts no
//! runs and reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::jitter_of;

/// Entries that run again because their last run deferred tags. These runs are in addition to the schedules.
#[derive(Debug, Clone, Default)]
pub struct Deferred {
    entries: BTreeMap<String, DateTime<Utc>>,
}

impl Deferred {
    /// Records that an entry runs again at `until`, plus an extra delay. `ended` is the end of the entry's last run.
    /// The extra delay is at most a quarter of the time from `ended` to `until`. The extra delay differs between
    /// entries. So entries that wait for the same registry start at different times.
    pub fn set(&mut self, entry: &str, ended: DateTime<Utc>, until: DateTime<Utc>) {
        let wait = (until - ended).to_std().unwrap_or(Duration::ZERO);
        let jitter = TimeDelta::from_std(jitter_of(entry, wait / 4)).unwrap_or_default();
        self.entries.insert(entry.to_owned(), until + jitter);
    }

    /// Adjusts all times after the clock was set back. `by` is the size of the setback. Each time becomes earlier by
    /// this size. So the setback does not make any entry wait longer.
    pub fn set_back(&mut self, by: TimeDelta) {
        for instant in self.entries.values_mut() {
            *instant = instant.checked_sub_signed(by).unwrap_or(*instant);
        }
    }

    /// Removes an entry. The caller calls this method when a run of the entry starts, or when the entry no longer
    /// exists.
    pub fn remove(&mut self, entry: &str) {
        self.entries.remove(entry);
    }

    /// Removes all entries for which `stays` returns false.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.entries.retain(|entry, _| stays(entry));
    }

    /// Returns the time at which a deferred entry runs again; `None` if the entry is not deferred.
    #[must_use]
    pub fn resumes_at(&self, entry: &str) -> Option<DateTime<Utc>> {
        self.entries.get(entry).copied()
    }

    /// Removes and returns the entries that are due at `now`, in the order of their times.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<String> {
        let is_due = |(_, time): &(&String, &DateTime<Utc>)| **time <= now;
        let mut due: Vec<(DateTime<Utc>, String)> =
            self.entries.iter().filter(is_due).map(|(entry, time)| (*time, entry.clone())).collect();
        due.sort();
        self.entries.retain(|_, time| *time > now);
        due.into_iter().map(|(_, entry)| entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: i64) -> DateTime<Utc> {
        "2026-05-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(number)
    }

    #[test]
    fn deferred_entry_resumes_once_and_not_too_early() {
        let mut deferred = Deferred::default();
        for entry in ["a", "b", "c"] {
            deferred.set(entry, minute(0), minute(30));
        }
        deferred.set("soon", minute(0), minute(1));
        deferred.remove("c");
        assert!(deferred.due(minute(0)).is_empty());
        let instants = ["a", "b"].map(|entry| deferred.resumes_at(entry).unwrap());
        assert!(instants.iter().all(|instant| (minute(30)..minute(38)).contains(instant)), "{instants:?}");
        assert_ne!(instants[0], instants[1]);
        assert_eq!(deferred.due(minute(29)), ["soon"]);
        let mut due = deferred.due(minute(38));
        due.sort();
        assert_eq!(due, ["a", "b"]);
        assert!(deferred.due(minute(99)).is_empty());
    }

    #[test]
    fn setback_does_not_prolong_deferred_entry() {
        let mut deferred = Deferred::default();
        deferred.set("a", minute(0), minute(1));
        let before = deferred.resumes_at("a").unwrap();
        deferred.set_back(TimeDelta::hours(8));
        assert_eq!(deferred.resumes_at("a"), Some(before - TimeDelta::hours(8)));
    }
}
