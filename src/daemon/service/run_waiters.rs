//! Waiters for the end of an entry's run, and the report that they get.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::journal::TagCounts;
use crate::sync::{RunOutcome, RunReport};

/// Report about a run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Number of the run in the journal, if it has one.
    pub run: Option<i64>,
    /// Outcome of the run.
    pub outcome: RunOutcome,
    /// Results of its tags.
    pub tags: TagCounts,
    /// First problem of the run.
    pub problem: Option<String>,
}

/// Waiters by entry. A waiter that is dropped without a report learns that no end will come.
#[derive(Debug, Default)]
pub(crate) struct Awaited(BTreeMap<String, Vec<oneshot::Sender<Finished>>>);

impl Awaited {
    pub(crate) fn add(&mut self, entry: String, told: oneshot::Sender<Finished>) {
        let waiting = self.0.entry(entry).or_default();
        // Without this, waiters whose callers are gone would accumulate during a long run.
        waiting.retain(|told| !told.is_closed());
        waiting.push(told);
    }

    /// Reports the end of the entry's run, after which nothing of it follows.
    pub(crate) fn ended(&mut self, report: &RunReport) {
        let Some(waiting) = self.0.remove(&report.entry) else { return };
        let finished = Finished {
            run: report.run,
            outcome: report.outcome.clone(),
            tags: report.counts(),
            problem: report.first_problem(),
        };
        for told in waiting {
            let _ = told.send(finished.clone());
        }
    }

    /// Drops the waiters of all entries that are not under way.
    pub(crate) fn retain(&mut self, is_under_way: impl Fn(&str) -> bool) {
        self.0.retain(|entry, _| is_under_way(entry));
    }
}
