//! Callers that wait for the end of an entry's run.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::daemon::control::Finished;
use crate::sync::RunReport;

/// Waiters by entry. If a waiter is dropped without a report, its receiver gets an error.
#[derive(Debug, Default)]
pub(crate) struct RunWaiters(BTreeMap<String, Vec<oneshot::Sender<Finished>>>);

impl RunWaiters {
    /// Adds a waiter for the end of the run of an entry.
    pub(crate) fn add(&mut self, entry: String, waiter: oneshot::Sender<Finished>) {
        let waiting = self.0.entry(entry).or_default();
        // Waiters whose callers have gone are removed. Otherwise these waiters would accumulate during a long run.
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push(waiter);
    }

    /// Reports the end of a run to the waiters of its entry, and removes these waiters. If a stopped run resumes at
    /// once, the loop does not call this method for the stopped run.
    pub(crate) fn notify_end(&mut self, report: &RunReport) {
        let Some(waiting) = self.0.remove(&report.entry) else { return };
        let finished = Finished::from_report(report);
        for waiter in waiting {
            let _ = waiter.send(finished.clone());
        }
    }

    /// Drops the waiters of the entries for which `is_under_way` returns false.
    pub(crate) fn retain(&mut self, is_under_way: impl Fn(&str) -> bool) {
        self.0.retain(|entry, _| is_under_way(entry));
    }
}
