//! Past runs of each entry, from the journal and since the start.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::config::Warning;
use crate::journal::{Journal, JournalError, Outcome, RunRecord, Trigger};
use crate::status::{FailedRun, LastRun, RunningState};

/// Runs of one entry, as far as the status shows them.
#[derive(Debug, Clone, Default)]
pub(super) struct EntryHistory {
    /// Warnings about things that the last whole run selected and did not find.
    pub(super) warnings: Vec<Warning>,
    pub(super) running: Option<RunningState>,
    pub(super) last_run: Option<LastRun>,
    pub(super) last_success: Option<DateTime<Utc>>,
    pub(super) last_failure: Option<DateTime<Utc>>,
    /// Number of runs in a row that failed.
    pub(super) failures: u32,
    /// Number of the latest of those runs that made no progress. The only failed runs with progress are those that
    /// their timeout ended while data arrived.
    pub(super) fruitless: u32,
    /// True if the daemon itself started the last run and that run was interrupted.
    pub(super) cut_off: bool,
    /// End of the last run and the time at which it resumes, if the daemon itself started that run and it deferred
    /// tags.
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

/// Returns a failed run in the form that people see; `None` if the run did not fail or has not ended.
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
            bytes: run.bytes,
            error: run.error.clone(),
        };
        let own = run.trigger != Trigger::Manual;
        Self {
            last_run: Some(last_run),
            cut_off: outcome == Outcome::Interrupted && own,
            deferred: run.deferred_until.filter(|_| own).map(|until| (ended, until)),
            ..Self::default()
        }
    }
}

/// Returns true for a success and false for a failure. A run with deferred tags and an interrupted run are neither.
pub(super) fn success_of(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded => Some(true),
        Outcome::Deferred | Outcome::Interrupted => None,
        Outcome::Failed | Outcome::TimedOut => Some(false),
    }
}
