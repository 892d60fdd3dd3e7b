//! Pull quotas that registries reported. This file contains the statements and the methods of [`Journal`] for quotas.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Result, params};

use super::group::Durability;
use super::queries::{count, number, parsed, text};
use super::{Journal, JournalError};

/// Report of a registry about one pull quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaRecord {
    /// Host of the registry.
    pub registry: String,
    /// Identity that has the quota: a user name or `anonymous`, never a secret.
    pub identity: String,
    /// Maximum number of reads in a window.
    pub limit: u64,
    /// Length of a window, in whole seconds.
    pub window: Duration,
    /// Number of remaining reads at the time of the report.
    pub remaining: u64,
    /// Time of the report.
    pub reported: DateTime<Utc>,
}

impl Journal {
    /// Returns the last report about each quota.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn quotas(&self) -> std::result::Result<Vec<QuotaRecord>, JournalError> {
        self.read(list_quotas).await
    }

    /// Records a report about a quota. If the journal already contains a later report, keeps the later report. If the
    /// time of the later report is in the future, the clock was set back, and the new report replaces the later report.
    /// The record is a hint: the program queries the registry before the program relies on the record.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record_quota(&self, quota: QuotaRecord) -> std::result::Result<(), JournalError> {
        self.write(Durability::Unsynced, move |db| record_quota(db, &quota)).await
    }
}

fn list_quotas(db: &Connection) -> Result<Vec<QuotaRecord>> {
    let mut statement = db.prepare_cached("SELECT * FROM quotas ORDER BY registry, identity")?;
    let rows = statement.query_map([], |row| {
        Ok(QuotaRecord {
            registry: row.get("registry")?,
            identity: row.get("identity")?,
            limit: count(row, "allowed")?,
            window: Duration::from_secs(count(row, "seconds")?),
            remaining: count(row, "remaining")?,
            reported: parsed(row, "reported")?,
        })
    })?;
    rows.collect()
}

fn record_quota(db: &Connection, quota: &QuotaRecord) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO quotas (registry, identity, allowed, seconds, remaining, reported) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET allowed = excluded.allowed, seconds = excluded.seconds,
            remaining = excluded.remaining, reported = excluded.reported
            WHERE excluded.reported >= reported OR reported > ?7",
    )?;
    let QuotaRecord { registry, identity, limit, window, remaining, reported } = quota;
    let (limit, window, remaining) = (number(*limit), number(window.as_secs()), number(*remaining));
    statement.execute(params![registry, identity, limit, window, remaining, text(*reported), text(Utc::now())])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn quota(identity: &str, remaining: u64, second: i64) -> QuotaRecord {
        QuotaRecord {
            registry: "docker.io".into(),
            identity: identity.into(),
            limit: 100,
            window: Duration::from_secs(21_600),
            remaining,
            reported: "2026-05-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(second),
        }
    }

    #[tokio::test]
    async fn last_report_of_each_quota_survives_restart() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        for report in [quota("bot", 76, 5), quota("anonymous", 9, 1), quota("bot", 80, 4), quota("bot", 75, 5)] {
            journal.record_quota(report).await.unwrap();
        }
        drop(journal);
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        assert_eq!(journal.quotas().await.unwrap(), [quota("anonymous", 9, 1), quota("bot", 75, 5)]);
    }

    #[tokio::test]
    async fn report_from_future_does_not_block_later_ones() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        for report in [quota("bot", 76, 50 * 365 * 86_400), quota("bot", 80, 4)] {
            journal.record_quota(report).await.unwrap();
        }
        assert_eq!(journal.quotas().await.unwrap(), [quota("bot", 80, 4)]);
    }
}
