//! When it was last looked for what refers to a digest, and what each target got of it: the statements and the methods of
//! [`Journal`] for that alone.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, Result, params};

use super::group::Promise;
use super::queries::{parsed, parsed_if_any, text};
use super::{Journal, JournalError};
use crate::oci::Digest;

/// How long a check is remembered that no run has renewed: its digest is seen no more.
const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// That it was looked at a source for what refers to a digest, on behalf of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerCheck {
    /// The digest.
    pub subject: Digest,
    /// The target.
    pub target: String,
    /// When the source was asked.
    pub checked: DateTime<Utc>,
    /// A digest that is the same for the same list: that of the list which came to the target. `None` where it is not
    /// known which one did: a copy looks, and does not tell.
    pub list: Option<Digest>,
}

impl Journal {
    /// What was noted of a source, the latest first; of those of one instant those with a list first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn referrer_checks(&self, source: &str) -> Result<Vec<ReferrerCheck>, JournalError> {
        let source = source.to_owned();
        self.read(move |db| list_referrer_checks_at(db, &source)).await
    }

    /// Notes a check. One without a list leaves the list that was noted before.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn note_referrer_check(&self, source: &str, check: ReferrerCheck) -> Result<(), JournalError> {
        let source = source.to_owned();
        self.write(Promise::Hint, move |db| note_referrer_check(db, &source, &check)).await
    }

    /// Forgets the checks, of any source, that were last noted more than 30 days ago.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn forget_old_referrer_checks(&self, now: DateTime<Utc>) -> Result<(), JournalError> {
        self.write(Promise::Hint, move |db| delete_referrer_checks_before(db, now - REMEMBERED)).await
    }
}

fn list_referrer_checks_at(db: &Connection, source: &str) -> Result<Vec<ReferrerCheck>> {
    let mut statement = db.prepare_cached(
        "SELECT subject, target, checked, list FROM referrer_checks WHERE source = ?1 ORDER BY checked DESC, list IS NULL",
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

fn note_referrer_check(db: &Connection, source: &str, check: &ReferrerCheck) -> Result<()> {
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
    async fn a_check_is_told_of_its_source_the_latest_first() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let notes = [
            check("a", "t1", day(0), Some("x")),
            check("a", "t2", day(1), None),
            check("a", "t3", day(1), Some("y")),
            // A copy looked again: the list that came before is still there.
            check("a", "t1", day(2), None),
        ];
        for note in notes {
            journal.note_referrer_check("s", note).await.unwrap();
        }
        journal.note_referrer_check("elsewhere", check("a", "t1", day(9), Some("z"))).await.unwrap();
        let told =
            [check("a", "t1", day(2), Some("x")), check("a", "t3", day(1), Some("y")), check("a", "t2", day(1), None)];
        assert_eq!(journal.referrer_checks("s").await.unwrap(), told);
    }

    #[tokio::test]
    async fn what_was_not_checked_for_a_month_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let (old, young) = (check("a", "t", day(0), Some("x")), check("b", "t", day(1), None));
        for note in [&old, &young] {
            journal.note_referrer_check("s", note.clone()).await.unwrap();
        }
        journal.forget_old_referrer_checks(day(30)).await.unwrap();
        assert_eq!(journal.referrer_checks("s").await.unwrap(), [young.clone(), old]);
        journal.forget_old_referrer_checks(day(31)).await.unwrap();
        assert_eq!(journal.referrer_checks("s").await.unwrap(), [young]);
    }
}
