//! Failure streaks: the number of consecutive failures of each entry. This file contains the statements and the method
//! of [`Journal`] for failure streaks.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Result, params};

use super::queries::{list_last_run_of_each_entry, parsed};
use super::{Journal, JournalError, RunRecord};

/// Consecutive failures of one entry since its last run that succeeded or deferred tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureStreak {
    /// Name of the entry.
    pub entry: String,
    /// Number of runs that failed or timed out. Interrupted runs and runs for pushed tags do not count.
    pub failures: u32,
    /// Time at which the last failed run ended.
    pub last: DateTime<Utc>,
    /// True if the entry's last run made progress: see [`Outcome::made_progress`](super::Outcome::made_progress). In
    /// this case, the next run of the entry is not delayed by back-off.
    pub made_progress: bool,
}

impl Journal {
    /// Returns all failure streaks, ordered by the name of the entry.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn failure_streaks(&self) -> Result<Vec<FailureStreak>, JournalError> {
        self.read(list_failure_streaks).await
    }
}

fn list_failure_streaks(db: &Connection) -> Result<Vec<FailureStreak>> {
    let mut statement = db.prepare_cached(
        "WITH well AS (SELECT entry, max(id) AS id FROM runs
                       WHERE outcome NOT IN ('failed', 'timed_out', 'interrupted') AND trigger <> 'push_event'
                       GROUP BY entry)
         SELECT entry, count(*) + sum(failures_before) AS failures, max(ended) AS last FROM runs LEFT JOIN
         well USING (entry)
         WHERE outcome IN ('failed', 'timed_out') AND trigger <> 'push_event' AND runs.id > coalesce(well.id, 0)
         GROUP BY entry ORDER BY entry",
    )?;
    let with_progress = list_entries_with_progress(db)?;
    let rows = statement.query_map([], |row| {
        let (entry, failures, last): (String, _, _) = (row.get("entry")?, row.get("failures")?, parsed(row, "last")?);
        let made_progress = with_progress.contains(&entry);
        Ok(FailureStreak { entry, failures, last, made_progress })
    })?;
    rows.collect()
}

fn list_entries_with_progress(db: &Connection) -> Result<HashSet<String>> {
    let last_runs = list_last_run_of_each_entry(db)?.into_iter().map(|owned| owned.run);
    let made_progress = |run: &RunRecord| run.outcome.is_some_and(|outcome| outcome.made_progress(run.bytes, run.tags));
    Ok(last_runs.filter(made_progress).map(|run| run.entry).collect())
}

/// Adds `failures`, the number of failures in deleted rows, to the last failed run of the entry.
pub(super) fn move_failures_to_last_failed_run(db: &Connection, entry: &str, failures: u32) -> Result<()> {
    let mut statement = db.prepare_cached(
        "UPDATE runs SET failures_before = failures_before + ?2
         WHERE id = (SELECT max(id) FROM runs WHERE entry = ?1 AND outcome IN ('failed', 'timed_out') AND
         trigger <> 'push_event')",
    )?;
    statement.execute(params![entry, failures])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Outcome, RunEnd, RunStart, TagCounts, Trigger};

    async fn run(journal: &Journal, entry: &str, outcome: Outcome, minute: i64) {
        run_that_sends(journal, entry, outcome, minute, 0).await;
    }

    async fn run_that_sends(journal: &Journal, entry: &str, outcome: Outcome, minute: i64, bytes: u64) {
        let at = DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap();
        let RunStart::Started(id) = journal.begin_run(entry, Trigger::Manual, at).await.unwrap() else {
            panic!("not started")
        };
        let end = RunEnd { outcome, tags: TagCounts::default(), bytes, error: None, deferred_until: None };
        journal.end_run(id, end, at).await.unwrap();
    }

    #[tokio::test]
    async fn failures_count_since_last_run_that_did_not_fail() {
        use Outcome::{Failed, Interrupted, Succeeded, TimedOut};
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        for (entry, outcomes) in [
            ("again", &[Failed, Succeeded, Failed, Interrupted, TimedOut][..]),
            ("never-well", &[Failed]),
            ("well", &[Failed, Failed, Succeeded]),
            ("interrupted", &[Succeeded, Interrupted]),
        ] {
            for (minute, outcome) in outcomes.iter().enumerate() {
                run(&journal, entry, *outcome, minute as i64).await;
            }
        }
        let streaks = journal.failure_streaks().await.unwrap();
        let actual: Vec<_> = streaks
            .iter()
            .map(|streak| (streak.entry.as_str(), streak.failures, streak.last.timestamp() - 1_800_000_000))
            .collect();
        assert_eq!(actual, [("again", 2, 240), ("never-well", 1, 0)]);
    }

    #[tokio::test]
    async fn timed_out_run_with_arrivals_counts_as_progress() {
        use Outcome::{Failed, TimedOut};
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        for (entry, runs) in [
            ("fails", &[(TimedOut, 7), (Failed, 7)][..]),
            ("progresses", &[(Failed, 0), (TimedOut, 7)]),
            ("hangs", &[(TimedOut, 0)]),
        ] {
            for (minute, (outcome, bytes)) in runs.iter().enumerate() {
                run_that_sends(&journal, entry, *outcome, minute as i64, *bytes).await;
            }
        }
        let streaks = journal.failure_streaks().await.unwrap();
        let actual: Vec<_> =
            streaks.iter().map(|streak| (streak.entry.as_str(), streak.failures, streak.made_progress)).collect();
        assert_eq!(actual, [("fails", 2, false), ("hangs", 1, false), ("progresses", 2, true)]);
    }
}
