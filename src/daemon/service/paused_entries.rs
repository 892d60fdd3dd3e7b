//! Set of paused entries, for which no run starts automatically. It records nothing in the journal and reads no clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::journal::PauseRecord;

/// Pauses in force, by entry.
#[derive(Debug, Default)]
pub(crate) struct PausedEntries(BTreeMap<String, Pause>);

/// Pause of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) since: DateTime<Utc>,
    pub(crate) until: Option<DateTime<Utc>>,
    /// True if a run resumes at the end of the pause: one that the pause interrupted, or one that was to start before
    /// that end.
    owes: bool,
}

impl PausedEntries {
    /// Returns the pauses of the journal that are in force at `now`.
    pub(crate) fn from_records(records: &[PauseRecord], now: DateTime<Utc>) -> Self {
        let lasting = records.iter().filter(|record| record.ended_at(now).is_none());
        let pause = |record: &PauseRecord| {
            (record.entry.clone(), Pause { since: record.since, until: record.until, owes: false })
        };
        Self(lasting.map(pause).collect())
    }

    pub(crate) fn get(&self, entry: &str) -> Option<Pause> {
        self.0.get(entry).copied()
    }

    pub(crate) fn has(&self, entry: &str) -> bool {
        self.0.contains_key(entry)
    }

    /// Pauses an entry. An entry that is paused already keeps the start of its pause and gets the new end.
    pub(crate) fn set(&mut self, entry: &str, since: DateTime<Utc>, until: Option<DateTime<Utc>>) {
        let pause = self.0.entry(entry.to_owned()).or_insert(Pause { since, until, owes: false });
        pause.until = until;
    }

    /// Records that a run of the entry resumes at the end of the pause. Returns true if the entry is paused.
    pub(crate) fn owe_run(&mut self, entry: &str) -> bool {
        self.0.get_mut(entry).map(|pause| pause.owes = true).is_some()
    }

    /// Ends a pause. Returns true if a run resumes, and `None` if the entry was not paused.
    pub(crate) fn end(&mut self, entry: &str) -> Option<bool> {
        self.0.remove(entry).map(|pause| pause.owes)
    }

    /// Returns the entries whose pause is over at `now`.
    pub(crate) fn expired(&self, now: DateTime<Utc>) -> Vec<String> {
        let expired = self.0.iter().filter(|(_, pause)| pause.until.is_some_and(|until| until <= now));
        expired.map(|(entry, _)| entry.clone()).collect()
    }
}
