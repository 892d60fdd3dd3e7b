//! Checks of referrers: the time at which a run last requested the referrers of a digest from the source, and the list
//! of referrers that the target received. This file contains the statements and the methods of [`Journal`] for these
//! checks.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, Result, params};

use super::group::Durability;
use super::queries::{parsed, parsed_if_any, text};
use super::{Journal, JournalError};
use crate::oci::Digest;

/// Age after which a check that no run has repeated is deleted.
const RETENTION: TimeDelta = TimeDelta::days(30);

/// Last request for the referrers of a digest at a source, for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerCheck {
    /// Digest whose referrers were requested.
    pub subject: Digest,
    /// Target of the check.
    pub target: String,
    /// Time at which the referrers were requested from the source.
    pub checked: DateTime<Utc>,
    /// Digest of the list of referrers that was copied to the target. Equal lists have equal digests. `None` if the
    /// list is unknown: the copy of a tag requests the referrers, but does not report the list.
    pub list: Option<Digest>,
}

impl Journal {
    /// Returns the checks of a source, the latest first. For checks of the same time, a check with a list comes first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn referrer_checks(&self, source: &str) -> Result<Vec<ReferrerCheck>, JournalError> {
        let source = source.to_owned();
        self.read(move |db| list_referrer_checks_at(db, &source)).await
    }

    /// Records a check. If the check has no list, the previously recorded list is kept.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record_referrer_check(&self, source: &str, check: ReferrerCheck) -> Result<(), JournalError> {
        let source = source.to_owned();
        self.write(Durability::Unsynced, move |db| record_referrer_check(db, &source, &check)).await
    }

    /// Deletes each check that was last recorded more than 30 days ago.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn forget_old_referrer_checks(&self, now: DateTime<Utc>) -> Result<(), JournalError> {
        self.write(Durability::Unsynced, move |db| delete_referrer_checks_before(db, now - RETENTION)).await
    }
}

fn list_referrer_checks_at(db: &Connection, source: &str) -> Result<Vec<ReferrerCheck>> {
    let mut statement = db.prepare_cached(
        "SELECT subject, target, checked, list FROM referrer_checks WHERE source = ?1 ORDER BY checked DESC,
         list IS NULL",
    )?;
    let rows = statement.query_map([source], |row| {
        Ok(ReferrerCheck {
            subject: parsed(row, "subject")?,
            target: row.get("target")?,
            checked: parsed(row, "checked")?,
            list: parsed_if_any(row, "list")?,
        })
    })?;
    rows.collect()
}

fn record_referrer_check(db: &Connection, source: &str, check: &ReferrerCheck) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO referrer_checks (source, subject, target, checked, list) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET checked = excluded.checked, list = coalesce(excluded.list, list)",
    )?;
    let ReferrerCheck { subject, target, checked, list } = check;
    let list = list.map(|list| list.to_string());
    statement.execute(params![source, subject.to_string(), target, text(*checked), list])?;
    Ok(())
}

fn delete_referrer_checks_before(db: &Connection, instant: DateTime<Utc>) -> Result<()> {
    db.execute("DELETE FROM referrer_checks WHERE checked < ?1", [text(instant)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> DateTime<Utc> {
        "2026-05-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(day)
    }

    fn check(subject: &str, target: &str, checked: DateTime<Utc>, list: Option<&str>) -> ReferrerCheck {
        let digest = |text: &str| Digest::of(text.as_bytes());
        ReferrerCheck { subject: digest(subject), target: target.to_owned(), checked, list: list.map(digest) }
    }

    #[tokio::test]
    async fn checks_of_source_are_listed_latest_first() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let notes = [
            check("a", "t1", day(0), Some("x")),
            check("a", "t2", day(1), None),
            check("a", "t3", day(1), Some("y")),
            // A copy requested the referrers again: the list of the earlier check is still recorded.
            check("a", "t1", day(2), None),
        ];
        for note in notes {
            journal.record_referrer_check("s", note).await.unwrap();
        }
        journal.record_referrer_check("elsewhere", check("a", "t1", day(9), Some("z"))).await.unwrap();
        let expected =
            [check("a", "t1", day(2), Some("x")), check("a", "t3", day(1), Some("y")), check("a", "t2", day(1), None)];
        assert_eq!(journal.referrer_checks("s").await.unwrap(), expected);
    }

    #[tokio::test]
    async fn checks_older_than_a_month_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let (old, young) = (check("a", "t", day(0), Some("x")), check("b", "t", day(1), None));
        for note in [&old, &young] {
            journal.record_referrer_check("s", note.clone()).await.unwrap();
        }
        journal.forget_old_referrer_checks(day(30)).await.unwrap();
        assert_eq!(journal.referrer_checks("s").await.unwrap(), [young.clone(), old]);
        journal.forget_old_referrer_checks(day(31)).await.unwrap();
        assert_eq!(journal.referrer_checks("s").await.unwrap(), [young]);
    }
}
