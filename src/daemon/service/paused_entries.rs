//! The entries that are paused: what begins by itself begins no run of theirs. It writes nothing down and reads no clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::journal::PauseRecord;

/// The pauses that last.
#[derive(Debug, Default)]
pub(crate) struct Pauses(BTreeMap<String, Pause>);

/// One pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) since: DateTime<Utc>,
    pub(crate) until: Option<DateTime<Utc>>,
    /// Whether a run goes on at its end: one that it cut off, or that was to begin before it.
    owes: bool,
}

impl Pauses {
    /// Those of the journal that last at `now`.
    pub(crate) fn of(records: &[PauseRecord], now: DateTime<Utc>) -> Self {
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

    /// Pauses an entry; one that is paused stays so since it was, with another end.
    pub(crate) fn set(&mut self, entry: &str, since: DateTime<Utc>, until: Option<DateTime<Utc>>) {
        let pause = self.0.entry(entry.to_owned()).or_insert(Pause { since, until, owes: false });
        pause.until = until;
    }

    /// A run of the entry is to go on at the end of its pause. Says whether it is paused.
    pub(crate) fn owe(&mut self, entry: &str) -> bool {
        self.0.get_mut(entry).map(|pause| pause.owes = true).is_some()
    }

    /// Ends a pause. Says whether a run goes on, `None` where there was no pause.
    pub(crate) fn end(&mut self, entry: &str) -> Option<bool> {
        self.0.remove(entry).map(|pause| pause.owes)
    }

    /// The entries whose pause is over at `now`.
    pub(crate) fn over(&self, now: DateTime<Utc>) -> Vec<String> {
        let over = self.0.iter().filter(|(_, pause)| pause.until.is_some_and(|until| until <= now));
        over.map(|(entry, _)| entry.clone()).collect()
    }
}
