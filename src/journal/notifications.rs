//! Notices that wait for receivers, and the facts that each receiver knows. This file has only the statements and the
//! methods of [`Journal`] for notices. The tables hold no address and no secret: receivers have names.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::group::Durability;
use super::queries::{count, parsed, text};
use super::{Journal, JournalError};

/// Maximum number of notices that wait for one receiver. The oldest are deleted first.
const WAITING: u32 = 1000;

/// Notice for a receiver, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// Name of the receiver.
    pub receiver: String,
    /// Subject of the notice: an entry. Empty for the configuration.
    pub subject: String,
    /// Event, in one word.
    pub event: String,
    /// Message.
    pub body: String,
    /// Facts that the receiver knows once it has the notice, and not before. Empty in a notice that was read from the
    /// journal.
    pub learnt: Vec<ReceiverFact>,
    /// Facts that the receiver does not know any more once it has the notice.
    pub forgotten: Vec<ReceiverFact>,
}

/// Waiting notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNotification {
    /// Number of the notice. Later notices have a higher one.
    pub number: i64,
    /// Random identifier of the message at its receiver.
    pub message: String,
    /// Time at which it was stored.
    pub made: DateTime<Utc>,
    /// Content and receiver of the notice.
    pub notice: NewNotification,
}

/// Fact that a receiver knows of an entry (or of the configuration), so that the fact is not sent again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiverFact {
    /// Name of the receiver.
    pub receiver: String,
    /// Subject of the fact, as in [`NewNotification`].
    pub subject: String,
    /// The fact.
    pub fact: String,
    /// Time since which the receiver knows it.
    pub since: DateTime<Utc>,
}

impl Journal {
    /// Returns the facts that receivers will know of an entry once all waiting notices are delivered. An empty name
    /// stands for the configuration.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn facts_of(&self, subject: &str) -> std::result::Result<Vec<ReceiverFact>, JournalError> {
        let subject = subject.to_owned();
        self.read(move |db| list_facts_of(db, &subject)).await
    }

    /// Stores notices until they are delivered. It also records facts that receivers learn or forget without a
    /// message. Returns the number of older notices that were deleted because too many wait: receivers do not know
    /// their facts.
    ///
    /// # Errors
    /// [`JournalError`]; nothing is then stored.
    pub async fn store_notifications(
        &self,
        notices: Vec<NewNotification>,
        learnt: Vec<ReceiverFact>,
        forgotten: Vec<ReceiverFact>,
        now: DateTime<Utc>,
    ) -> std::result::Result<u64, JournalError> {
        self.write(Durability::Kept, move |db| {
            for told in &learnt {
                delete_effects_on(db, told)?;
                insert_told(db, told)?;
            }
            for told in &forgotten {
                delete_effects_on(db, told)?;
                delete_told(db, told)?;
            }
            notices.iter().try_for_each(|notice| insert_notice(db, notice, now))?;
            notices.iter().map(|notice| delete_the_oldest_beyond(db, &notice.receiver, WAITING)).sum()
        })
        .await
    }

    /// Returns the number of waiting notices of each receiver.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn waiting_receivers(&self) -> std::result::Result<Vec<(String, u64)>, JournalError> {
        self.read(count_notices_by_receiver).await
    }

    /// Returns the oldest notice that waits for a receiver.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn next_notification(
        &self,
        receiver: &str,
    ) -> std::result::Result<Option<StoredNotification>, JournalError> {
        let receiver = receiver.to_owned();
        self.read(move |db| find_oldest_notice_for(db, &receiver)).await
    }

    /// Records that a notice was delivered: it no longer waits, and its receiver knows its facts.
    ///
    /// # Errors
    /// [`JournalError`]; the notice then still waits.
    pub async fn notification_delivered(&self, number: i64) -> std::result::Result<(), JournalError> {
        self.write(Durability::Kept, move |db| {
            let (learnt, forgotten): (Vec<Effect>, Vec<Effect>) =
                list_effects_of(db, number)?.into_iter().partition(|effect| effect.learnt);
            forgotten.iter().try_for_each(|effect| delete_told(db, &effect.told))?;
            learnt.iter().try_for_each(|effect| insert_told(db, &effect.told))?;
            delete_notice(db, number)
        })
        .await
    }

    /// Drops a notice without delivery: it no longer waits, and its receiver learns nothing from it.
    ///
    /// # Errors
    /// [`JournalError`]; the notice then still waits.
    pub async fn drop_notification(&self, number: i64) -> std::result::Result<(), JournalError> {
        self.write(Durability::Kept, move |db| delete_notice(db, number)).await
    }

    /// Deletes the waiting notices of these receivers and the facts that they know. Returns the number of deleted
    /// notices.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn drop_receivers(&self, gone: Vec<String>) -> std::result::Result<u64, JournalError> {
        self.write(Durability::Hint, move |db| gone.iter().map(|receiver| delete_receiver(db, receiver)).sum()).await
    }

    /// Deletes the notices that wait for a receiver and were stored at `until` or before. Returns the number of
    /// deleted notices.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn drop_notifications_until(
        &self,
        receiver: &str,
        until: DateTime<Utc>,
    ) -> std::result::Result<u64, JournalError> {
        let receiver = receiver.to_owned();
        self.write(Durability::Hint, move |db| delete_notices_until(db, &receiver, until)).await
    }
}

/// Change of the facts that a receiver knows.
struct Effect {
    told: ReceiverFact,
    learnt: bool,
}

/// Lists facts by receiver: those that are recorded, changed by the waiting notices in their order.
fn list_facts_of(db: &Connection, subject: &str) -> Result<Vec<ReceiverFact>> {
    let mut statement = db.prepare_cached("SELECT * FROM notification_facts WHERE subject = ?1")?;
    let known: Vec<ReceiverFact> = statement.query_map([subject], read_told)?.collect::<Result<_>>()?;
    let key = |told: &ReceiverFact| (told.receiver.clone(), told.fact.clone());
    let mut known: BTreeMap<_, _> = known.into_iter().map(|told| (key(&told), told)).collect();
    let mut statement = db.prepare_cached(
        "SELECT receiver, subject, fact, since, learnt FROM notification_effects
         JOIN notifications ON notifications.id = notification_effects.notification
         WHERE subject = ?1 ORDER BY notifications.id, notification_effects.id",
    )?;
    for effect in statement.query_map([subject], read_effect)? {
        let Effect { told, learnt } = effect?;
        if learnt {
            known.entry(key(&told)).or_insert(told);
        } else {
            known.remove(&key(&told));
        }
    }
    Ok(known.into_values().collect())
}

fn read_told(row: &Row<'_>) -> Result<ReceiverFact> {
    Ok(ReceiverFact {
        receiver: row.get("receiver")?,
        subject: row.get("subject")?,
        fact: row.get("fact")?,
        since: parsed(row, "since")?,
    })
}

fn read_effect(row: &Row<'_>) -> Result<Effect> {
    Ok(Effect { told: read_told(row)?, learnt: row.get("learnt")? })
}

fn list_effects_of(db: &Connection, notice: i64) -> Result<Vec<Effect>> {
    let mut statement = db.prepare_cached(
        "SELECT receiver, subject, fact, since, learnt FROM notification_effects
         JOIN notifications ON notifications.id = notification_effects.notification
         WHERE notification = ?1 ORDER BY notification_effects.id",
    )?;
    statement.query_map([notice], read_effect)?.collect()
}

fn insert_effect(db: &Connection, notice: i64, told: &ReceiverFact, learnt: bool) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO notification_effects (notification, fact, since, learnt) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute(params![notice, told.fact, text(told.since), learnt])?;
    Ok(())
}

/// Deletes the effects of waiting notices on a fact: a fact that is recorded now is later than those effects.
fn delete_effects_on(db: &Connection, told: &ReceiverFact) -> Result<()> {
    let mut statement = db.prepare_cached(
        "DELETE FROM notification_effects WHERE fact = ?3
             AND notification IN (SELECT id FROM notifications WHERE receiver = ?1 AND subject = ?2)",
    )?;
    statement.execute([&told.receiver, &told.subject, &told.fact])?;
    Ok(())
}

fn insert_told(db: &Connection, told: &ReceiverFact) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO notification_facts (subject, receiver, fact, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?;
    statement.execute(params![told.subject, told.receiver, told.fact, text(told.since)])?;
    Ok(())
}

fn delete_told(db: &Connection, told: &ReceiverFact) -> Result<()> {
    let mut statement =
        db.prepare_cached("DELETE FROM notification_facts WHERE subject = ?1 AND receiver = ?2 AND fact = ?3")?;
    statement.execute([&told.subject, &told.receiver, &told.fact])?;
    Ok(())
}

fn insert_notice(db: &Connection, notice: &NewNotification, now: DateTime<Utc>) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO notifications (message, receiver, subject, event, body, made)
         VALUES ('msg_' || lower(hex(randomblob(16))), ?1, ?2, ?3, ?4, ?5)",
    )?;
    let NewNotification { receiver, subject, event, body, learnt, forgotten } = notice;
    statement.execute(params![receiver, subject, event, body, text(now)])?;
    let number = db.last_insert_rowid();
    forgotten.iter().try_for_each(|told| insert_effect(db, number, told, false))?;
    learnt.iter().try_for_each(|told| insert_effect(db, number, told, true))
}

fn delete_the_oldest_beyond(db: &Connection, receiver: &str, most: u32) -> Result<u64> {
    let mut statement = db.prepare_cached(
        "DELETE FROM notifications WHERE receiver = ?1 AND id <=
            (SELECT id FROM notifications WHERE receiver = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    Ok(statement.execute(params![receiver, most])? as u64)
}

fn count_notices_by_receiver(db: &Connection) -> Result<Vec<(String, u64)>> {
    let mut statement = db.prepare_cached(
        "SELECT receiver, count(*) AS waiting FROM notifications GROUP BY receiver ORDER BY receiver",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get("receiver")?, count(row, "waiting")?)))?;
    rows.collect()
}

fn find_oldest_notice_for(db: &Connection, receiver: &str) -> Result<Option<StoredNotification>> {
    let mut statement = db.prepare_cached("SELECT * FROM notifications WHERE receiver = ?1 ORDER BY id LIMIT 1")?;
    let row = statement.query_row([receiver], |row| {
        Ok(StoredNotification {
            number: row.get("id")?,
            message: row.get("message")?,
            made: parsed(row, "made")?,
            notice: NewNotification {
                receiver: row.get("receiver")?,
                subject: row.get("subject")?,
                event: row.get("event")?,
                body: row.get("body")?,
                learnt: Vec::new(),
                forgotten: Vec::new(),
            },
        })
    });
    row.optional()
}

fn delete_notice(db: &Connection, number: i64) -> Result<()> {
    db.prepare_cached("DELETE FROM notifications WHERE id = ?1")?.execute([number])?;
    Ok(())
}

fn delete_notices_until(db: &Connection, receiver: &str, until: DateTime<Utc>) -> Result<u64> {
    let mut statement = db.prepare_cached("DELETE FROM notifications WHERE receiver = ?1 AND made <= ?2")?;
    Ok(statement.execute(params![receiver, text(until)])? as u64)
}

fn delete_receiver(db: &Connection, receiver: &str) -> Result<u64> {
    db.prepare_cached("DELETE FROM notification_facts WHERE receiver = ?1")?.execute([receiver])?;
    Ok(db.prepare_cached("DELETE FROM notifications WHERE receiver = ?1")?.execute([receiver])? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn notice(receiver: &str, body: &str) -> NewNotification {
        let (receiver, subject, event, body) = (receiver.into(), "app".into(), "failure".into(), body.into());
        NewNotification { receiver, subject, event, body, learnt: Vec::new(), forgotten: Vec::new() }
    }

    fn known_fact(receiver: &str, fact: &str) -> ReceiverFact {
        ReceiverFact { receiver: receiver.into(), subject: "app".into(), fact: fact.into(), since: time_at(0) }
    }

    #[tokio::test]
    async fn waiting_notices_and_facts_survive_restart_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        let notices = vec![notice("a", "1"), notice("b", "2"), notice("a", "3")];
        let learnt = vec![known_fact("a", "failure"), known_fact("b", "failure"), known_fact("b", "held x")];
        assert_eq!(journal.store_notifications(notices, learnt, Vec::new(), time_at(1)).await.unwrap(), 0);
        journal
            .store_notifications(
                Vec::new(),
                vec![known_fact("a", "failure")],
                vec![known_fact("b", "held x")],
                time_at(2),
            )
            .await
            .unwrap();
        let first = journal.next_notification("a").await.unwrap().unwrap();
        drop(journal);

        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.facts_of("app").await.unwrap(), [known_fact("a", "failure"), known_fact("b", "failure")]);
        assert_eq!(journal.facts_of("").await.unwrap(), []);
        assert_eq!(journal.waiting_receivers().await.unwrap(), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(journal.next_notification("a").await.unwrap().unwrap(), first, "with the same id");
        assert!(first.message.starts_with("msg_") && first.message.len() == 36, "{}", first.message);
        assert_eq!((first.notice.body.as_str(), first.made), ("1", time_at(1)));
        journal.drop_notification(first.number).await.unwrap();
        assert_eq!(journal.next_notification("a").await.unwrap().unwrap().notice.body, "3");
        assert_eq!(journal.drop_receivers(vec!["a".into()]).await.unwrap(), 1);
        assert_eq!(journal.next_notification("a").await.unwrap(), None);
        assert_eq!(journal.facts_of("app").await.unwrap(), [known_fact("b", "failure")]);
    }

    /// Returns the facts that receiver `a` knows once all waiting notices are delivered, and the number that is
    /// recorded already.
    async fn known(journal: &Journal) -> (Vec<String>, i64) {
        let known_fact = journal.facts_of("app").await.unwrap();
        let noted = journal.read(|db| db.query_row("SELECT count(*) FROM notification_facts", [], |row| row.get(0)));
        (known_fact.into_iter().map(|known_fact| known_fact.fact).collect(), noted.await.unwrap())
    }

    #[tokio::test]
    async fn fact_is_known_after_delivery_and_never_after_drop() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let failure = || NewNotification { learnt: vec![known_fact("a", "failure")], ..notice("a", "fails") };
        let recovery = || NewNotification { forgotten: vec![known_fact("a", "failure")], ..notice("a", "well") };
        let keep = async |notice: NewNotification| {
            journal.store_notifications(vec![notice], vec![], vec![], time_at(1)).await.unwrap();
        };
        let next = async || journal.next_notification("a").await.unwrap().unwrap().number;
        let failing = vec!["failure".to_owned()];
        keep(failure()).await;
        assert_eq!(known(&journal).await, (failing.clone(), 0), "a second run that fails is no news");
        journal.drop_notification(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (vec![], 0), "the next failure is news");
        keep(failure()).await;
        journal.notification_delivered(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (failing.clone(), 1));
        keep(recovery()).await;
        assert_eq!(known(&journal).await, (vec![], 1));
        journal.drop_notification(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (failing, 1), "the next success is news");
        keep(recovery()).await;
        journal.notification_delivered(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (vec![], 0));
    }

    #[tokio::test]
    async fn fact_recorded_without_message_overrides_waiting_notices() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let held = NewNotification {
            learnt: vec![known_fact("a", "held x"), known_fact("a", "held y")],
            ..notice("a", "held")
        };
        journal.store_notifications(vec![held], vec![], vec![], time_at(1)).await.unwrap();
        journal.store_notifications(vec![], vec![], vec![known_fact("a", "held x")], time_at(2)).await.unwrap();
        assert_eq!(known(&journal).await, (vec!["held y".to_owned()], 0));
        journal.notification_delivered(journal.next_notification("a").await.unwrap().unwrap().number).await.unwrap();
        assert_eq!(known(&journal).await, (vec!["held y".to_owned()], 1));
    }

    #[tokio::test]
    async fn waiting_notices_of_absent_receiver_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let many = (0..1003).map(|number| notice("a", &number.to_string()));
        let notices = many.chain([notice("b", "0")]).collect();
        assert_eq!(journal.store_notifications(notices, Vec::new(), Vec::new(), time_at(0)).await.unwrap(), 3);
        assert_eq!(journal.waiting_receivers().await.unwrap(), [("a".to_owned(), 1000), ("b".to_owned(), 1)]);
        assert_eq!(journal.next_notification("a").await.unwrap().unwrap().notice.body, "3");
    }
}
