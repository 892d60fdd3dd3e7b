//! Who waits for the end of an entry's run, and is told of it.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::journal::TagCounts;
use crate::sync::{RunOutcome, RunReport};

/// What is told of a run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its number in the journal, where it has one.
    pub run: Option<i64>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What became of its tags.
    pub tags: TagCounts,
    /// What went wrong first.
    pub problem: Option<String>,
}

/// Those who wait, by entry. Whoever is dropped untold knows that there will be no end to tell of.
#[derive(Debug, Default)]
pub(crate) struct Awaited(BTreeMap<String, Vec<oneshot::Sender<Finished>>>);

impl Awaited {
    pub(crate) fn add(&mut self, entry: String, told: oneshot::Sender<Finished>) {
        let waiting = self.0.entry(entry).or_default();
        // Else those who went on waiting elsewhere would add up while a long run goes on.
        waiting.retain(|told| !told.is_closed());
        waiting.push(told);
    }

    /// The entry's run is over, and nothing of it is to come.
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

    /// Forgets those who wait for another entry than these.
    pub(crate) fn retain(&mut self, is_under_way: impl Fn(&str) -> bool) {
        self.0.retain(|entry, _| is_under_way(entry));
    }
}
