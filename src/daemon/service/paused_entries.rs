//! Set of paused entries, for which no run starts automatically. The set does not access the journal or the clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::journal::PauseRecord;

/// Pauses in force, by entry.
#[derive(Debug, Default)]
pub(crate) struct PausedEntries(BTreeMap<String, Pause>);

/// Pause of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// Start of the pause.
    pub(crate) since: DateTime<Utc>,
    /// Time at which the pause ends automatically; `None` if a person has to resume the entry.
    pub(crate) until: Option<DateTime<Utc>>,
    /// True if a run starts at the end of the pause, because the pause interrupted a run or prevented its start.
    has_waiting_run: bool,
}

impl PausedEntries {
    /// Returns the pauses of the journal that are in force at `now`.
    pub(crate) fn from_records(records: &[PauseRecord], now: DateTime<Utc>) -> Self {
        let in_force = records.iter().filter(|record| record.ended_at(now).is_none());
        let pause = |record: &PauseRecord| {
            (record.entry.clone(), Pause { since: record.since, until: record.until, has_waiting_run: false })
        };
        Self(in_force.map(pause).collect())
    }

    pub(crate) fn get(&self, entry: &str) -> Option<Pause> {
        self.0.get(entry).copied()
    }

    pub(crate) fn has(&self, entry: &str) -> bool {
        self.0.contains_key(entry)
    }

    /// Pauses an entry. An entry that is paused already keeps the start of its pause and gets the new end.
    pub(crate) fn set(&mut self, entry: &str, since: DateTime<Utc>, until: Option<DateTime<Utc>>) {
        let pause = self.0.entry(entry.to_owned()).or_insert(Pause { since, until, has_waiting_run: false });
        pause.until = until;
    }

    /// Requests a run of the entry at the end of its pause. Returns false, and does nothing, if the entry is not
    /// paused.
    pub(crate) fn request_run_at_end(&mut self, entry: &str) -> bool {
        self.0.get_mut(entry).map(|pause| pause.has_waiting_run = true).is_some()
    }

    /// Ends a pause. Returns true if a run was requested for the end of the pause, and `None` if the entry was not
    /// paused.
    pub(crate) fn end(&mut self, entry: &str) -> Option<bool> {
        self.0.remove(entry).map(|pause| pause.has_waiting_run)
    }

    /// Returns the entries whose pause ends at `now` or ended before.
    pub(crate) fn expired(&self, now: DateTime<Utc>) -> Vec<String> {
        let expired = self.0.iter().filter(|(_, pause)| pause.until.is_some_and(|until| until <= now));
        expired.map(|(entry, _)| entry.clone()).collect()
    }
}
