//! How often in a row an entry has failed: the statement and the method of [`Journal`] for that alone.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Result, params};

use super::queries::parsed;
use super::{Journal, JournalError};

/// The failures of one entry since its last run that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureStreak {
    /// The entry.
    pub entry: String,
    /// How many runs failed or took too long. Runs that were cut off say nothing and do not count, nor do those for pushed tags.
    pub failures: u32,
    /// When the last of them ended.
    pub last: DateTime<Utc>,
}

impl Journal {
    /// The entries whose last run failed, by name.
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
                       WHERE outcome NOT IN ('failed', 'timed_out', 'interrupted') AND trigger <> 'pushed' GROUP BY entry)
         SELECT entry, count(*) + sum(failures_before) AS failures, max(ended) AS last FROM runs LEFT JOIN well USING (entry)
         WHERE outcome IN ('failed', 'timed_out') AND trigger <> 'pushed' AND runs.id > coalesce(well.id, 0)
         GROUP BY entry ORDER BY entry",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(FailureStreak { entry: row.get("entry")?, failures: row.get("failures")?, last: parsed(row, "last")? })
    })?;
    rows.collect()
}

/// Keeps the count of failures whose rows are being forgotten, with the last failure of the entry.
pub(super) fn carry_over(db: &Connection, entry: &str, failures: u32) -> Result<()> {
    let mut statement = db.prepare_cached(
        "UPDATE runs SET failures_before = failures_before + ?2
         WHERE id = (SELECT max(id) FROM runs WHERE entry = ?1 AND outcome IN ('failed', 'timed_out') AND trigger <> 'pushed')",
    )?;
    statement.execute(params![entry, failures])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Begun, Outcome, RunEnd, TagCounts, Trigger};

    async fn run(journal: &Journal, entry: &str, outcome: Outcome, minute: i64) {
        let at = DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap();
        let Begun::Started(id) = journal.begin_run(entry, Trigger::Hand, at).await.unwrap() else {
            panic!("not begun")
        };
        let end = RunEnd { outcome, tags: TagCounts::default(), bytes: 0, error: None, postponed_until: None };
        journal.end_run(id, end, at).await.unwrap();
    }

    #[tokio::test]
    async fn failures_count_since_the_last_run_that_did_not_fail() {
        use Outcome::{Failed, Interrupted, Succeeded, TimedOut};
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        for (entry, outcomes) in [
            ("again", &[Failed, Succeeded, Failed, Interrupted, TimedOut][..]),
            ("never-well", &[Failed]),
            ("well", &[Failed, Failed, Succeeded]),
            ("cut-off", &[Succeeded, Interrupted]),
        ] {
            for (minute, outcome) in outcomes.iter().enumerate() {
                run(&journal, entry, *outcome, minute as i64).await;
            }
        }
        let streaks = journal.failure_streaks().await.unwrap();
        let told: Vec<_> = streaks
            .iter()
            .map(|one| (one.entry.as_str(), one.failures, one.last.timestamp() - 1_800_000_000))
            .collect();
        assert_eq!(told, [("again", 2, 240), ("never-well", 1, 0)]);
    }
}
