//! Pruning of old journal rows, in a separate task. `daemon.keep_history` sets the age at which rows are deleted.
//! `journal/prune.rs` defines the rows that are never deleted.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinHandle;

use crate::journal::Journal;
use crate::schedule::jitter_of;

/// Time from the start of the daemon to the first pruning. Missed runs start before this pruning.
const FIRST_DELAY: Duration = Duration::from_secs(60);

/// Interval between two prunings. A jitter adds up to a quarter of the interval.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Time of the next pruning, and the pruning under way.
pub(crate) struct JournalPruning {
    /// Start and end of the current wait.
    wait: (DateTime<Utc>, DateTime<Utc>),
    task: Option<JoinHandle<()>>,
}

impl JournalPruning {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self { wait: (now, now + FIRST_DELAY), task: None }
    }

    /// Starts a pruning if a pruning is due and no pruning is under way. `keep` is the age up to which rows are kept;
    /// `None` keeps all rows.
    pub(crate) fn start_if_due(&mut self, now: DateTime<Utc>, keep: Option<Duration>, journal: Option<&Journal>) {
        let (Some(keep), Some(journal)) = (keep, journal) else { return };
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) || !self.is_due(now) {
            return;
        }
        let jitter = jitter_of(&journal.path().display().to_string(), INTERVAL / 4);
        self.wait = (now, now + INTERVAL + jitter);
        let before = TimeDelta::from_std(keep).ok().and_then(|keep| now.checked_sub_signed(keep));
        self.task = before.map(|before| tokio::spawn(prune_journal(journal.clone(), before)));
    }

    /// Returns true if a pruning is due. A pruning is also due if the clock was set back to a time before the current
    /// wait.
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        let (since, until) = self.wait;
        now >= until || now < since
    }
}

/// Aborts a pruning under way. Otherwise the pruning would keep the journal open after the end of the loop.
impl Drop for JournalPruning {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn prune_journal(journal: Journal, before: DateTime<Utc>) {
    match journal.prune(before).await {
        Ok(pruned) => tracing::debug!(?pruned, %before, "deleted old rows of the journal"),
        Err(error) => tracing::warn!(%error, "cannot delete old rows of the journal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{HistoryFilter, Outcome, RunEnd, RunStart, TagCounts, Trigger};

    fn time_at(minute: i64) -> DateTime<Utc> {
        "2026-05-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minute)
    }

    #[test]
    fn first_pruning_is_due_after_a_minute_or_setback() {
        let pruning = JournalPruning::new(time_at(10));
        assert!(!pruning.is_due(time_at(10)) && pruning.is_due(time_at(11)) && pruning.is_due(time_at(9)));
    }

    #[tokio::test]
    async fn rows_beyond_the_kept_age_are_pruned_hourly() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let run = async |minute| {
            let begun = journal.begin_run("a", Trigger::Start, time_at(minute)).await.unwrap();
            let RunStart::Started(run) = begun else { panic!("{begun:?}") };
            let (outcome, tags) = (Outcome::Succeeded, TagCounts::default());
            let end = RunEnd { outcome, tags, bytes: 0, error: None, deferred_until: None };
            journal.end_run(run, end, time_at(minute)).await.unwrap();
        };
        let mut pruning = JournalPruning::new(time_at(0));
        let day = Some(Duration::from_secs(24 * 3600));
        let mut remaining = Vec::new();
        for minute in [0, 1, 24 * 60 + 2, 24 * 60 + 50, 24 * 60 + 80] {
            run(minute).await;
            pruning.start_if_due(time_at(minute), day, Some(&journal));
            if let Some(task) = pruning.task.take() {
                task.await.unwrap();
            }
            remaining.push(journal.history(&HistoryFilter::default()).await.unwrap().len());
        }
        assert_eq!(remaining, [1, 2, 1, 2, 3]);
        pruning.start_if_due(time_at(90 * 24 * 60), None, Some(&journal));
        assert!(pruning.task.is_none(), "all rows are kept");
    }
}
