//! Results of the past runs of each entry: from the journal, and from runs since the daemon's start.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::config::Warning;
use crate::journal::{Journal, JournalError, Outcome, RunRecord, TagCounts, Trigger};
use crate::status::{FailedRun, LastRun, RunningState};

/// Facts about the runs of one entry, for the status and for decisions about the next run.
#[derive(Debug, Clone, Default)]
pub(super) struct EntryHistory {
    /// Warnings of the last run that was not limited to some tags: selected items that the run did not find.
    pub(super) warnings: Vec<Warning>,
    /// True if the last run that was not limited to some tags found no tag for the selection or for a part of it.
    pub(super) never_matched: bool,
    /// Run under way.
    pub(super) running: Option<RunningState>,
    pub(super) last_run: Option<LastRun>,
    pub(super) last_success: Option<DateTime<Utc>>,
    pub(super) last_failure: Option<DateTime<Utc>>,
    /// Number of consecutive failed runs.
    pub(super) failures: u32,
    /// Number of consecutive failed runs since a run made progress. A failed run made progress only if its timeout
    /// ended it after it had sent bytes or changed tags ([`Outcome::made_progress`]).
    pub(super) fruitless: u32,
    /// True if the daemon started the last run (not `once` or `copy`), and that run was interrupted.
    pub(super) was_interrupted: bool,
    /// End of the last run, and the time at which the run resumes. `None` if the last run deferred no tags, or was
    /// started by `once` or `copy`.
    pub(super) deferred: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Reads the history of each entry from the journal.
pub(super) async fn load_histories(journal: &Journal) -> Result<BTreeMap<String, EntryHistory>, JournalError> {
    let runs = journal.last_runs().await?.into_iter();
    let mut histories: BTreeMap<_, _> =
        runs.map(|run| (run.entry.clone(), EntryHistory::from_last_run(&run))).collect();
    for ends in journal.last_ends().await? {
        let history: &mut EntryHistory = histories.entry(ends.entry).or_default();
        (history.last_success, history.last_failure) = (ends.success, ends.failure);
    }
    for streak in journal.failure_streaks().await? {
        let history = histories.entry(streak.entry).or_default();
        history.failures = streak.failures;
        history.fruitless = if streak.made_progress { 0 } else { streak.failures };
    }
    Ok(histories)
}

/// Returns a failed run as the status shows it; `None` if the run did not fail or has not ended.
pub(super) fn failed_run(run: &RunRecord) -> Option<FailedRun> {
    let outcome = run.outcome.filter(|outcome| outcome.is_failure())?;
    Some(FailedRun {
        entry: run.entry.clone(),
        run: run.id.number(),
        outcome: outcome.word().to_owned(),
        ended: run.ended?,
        error: run.error.clone(),
    })
}

impl EntryHistory {
    /// Returns the history of an entry whose last run is `run`.
    fn from_last_run(run: &RunRecord) -> Self {
        let (Some(outcome), Some(ended)) = (run.outcome, run.ended) else { return Self::default() };
        let last_run = LastRun {
            run: run.id.number(),
            outcome: outcome.word().to_owned(),
            started: Some(run.started),
            ended,
            counts: run.tags,
            bytes_sent: run.bytes,
            error: run.error.clone(),
        };
        let is_by_daemon = run.trigger != Trigger::Manual;
        // The journal has no warnings. A run for pushed tags says nothing about the other tags of the selection.
        let never_matched =
            outcome == Outcome::Succeeded && run.trigger != Trigger::PushEvent && run.tags == TagCounts::default();
        Self {
            last_run: Some(last_run),
            never_matched,
            was_interrupted: outcome == Outcome::Interrupted && is_by_daemon,
            deferred: run.deferred_until.filter(|_| is_by_daemon).map(|until| (ended, until)),
            ..Self::default()
        }
    }
}

/// Returns true for a success and false for a failure. Returns `None` for a run with deferred tags and for an
/// interrupted run.
pub(super) fn is_success(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded => Some(true),
        Outcome::Deferred | Outcome::Interrupted => None,
        Outcome::Failed | Outcome::TimedOut => Some(false),
    }
}
