//! Notifications that wait for delivery, and the facts that transship has already reported to each receiver. This file
//! contains the statements and the methods of [`Journal`] for notifications. The tables contain the names of receivers,
//! but no addresses and no secrets.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::group::Durability;
use super::queries::{count, parsed, text};
use super::{Journal, JournalError};

/// Maximum number of waiting notifications of one receiver. The oldest notifications are deleted first.
const MAX_WAITING: u32 = 1000;

/// Notification for one receiver, before the journal stores the notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// Name of the receiver.
    pub receiver: String,
    /// Subject of the notification: the name of an entry, or empty for the configuration.
    pub subject: String,
    /// Name of the event.
    pub event: String,
    /// Content of the message.
    pub body: String,
    /// Facts that this notification reports. After the delivery, the journal records these facts for the receiver.
    /// Empty in a notification that was read from the journal.
    pub learnt: Vec<ReceiverFact>,
    /// Facts that have ended, such as the failure of an entry. After the delivery, the journal deletes these facts.
    /// Empty in a notification that was read from the journal.
    pub forgotten: Vec<ReceiverFact>,
}

/// Notification that waits for delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNotification {
    /// Number of the notification. Later notifications have higher numbers.
    pub number: i64,
    /// Random identifier of the message. A repeated delivery has the same identifier.
    pub message: String,
    /// Time at which the notification was stored.
    pub made: DateTime<Utc>,
    /// Content and receiver of the notification.
    pub notice: NewNotification,
}

/// Recorded fact about an entry or the configuration, such as `failure`. transship does not report a recorded fact to
/// the receiver again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiverFact {
    /// Name of the receiver.
    pub receiver: String,
    /// Subject of the fact: the name of an entry, or empty for the configuration.
    pub subject: String,
    /// Text of the fact, such as `failure`.
    pub fact: String,
    /// Time at which transship found the fact, such as the end of the first failed run.
    pub since: DateTime<Utc>,
}

impl Journal {
    /// Returns the facts about `subject` that will be recorded after the delivery of all waiting notifications.
    /// `subject` is the name of an entry, or empty for the configuration.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn facts_of(&self, subject: &str) -> std::result::Result<Vec<ReceiverFact>, JournalError> {
        let subject = subject.to_owned();
        self.read(move |db| list_facts_of(db, &subject)).await
    }

    /// Stores notifications until their delivery. Adds the facts in `learnt` and deletes the facts in `forgotten`
    /// immediately, without a message to the receivers. If more than 1000 notifications of a receiver wait, deletes the
    /// oldest of these notifications. The journal does not record the facts of a deleted notification. Returns the
    /// number of deleted notifications.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, nothing is stored.
    pub async fn store_notifications(
        &self,
        notifications: Vec<NewNotification>,
        learnt: Vec<ReceiverFact>,
        forgotten: Vec<ReceiverFact>,
        now: DateTime<Utc>,
    ) -> std::result::Result<u64, JournalError> {
        self.write(Durability::Synced, move |db| {
            for fact in &learnt {
                delete_effects_on(db, fact)?;
                insert_fact(db, fact)?;
            }
            for fact in &forgotten {
                delete_effects_on(db, fact)?;
                delete_fact(db, fact)?;
            }
            notifications.iter().try_for_each(|notification| insert_notification(db, notification, now))?;
            notifications.iter().map(|notification| delete_oldest_beyond(db, &notification.receiver, MAX_WAITING)).sum()
        })
        .await
    }

    /// Returns the number of waiting notifications of each receiver.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn waiting_receivers(&self) -> std::result::Result<Vec<(String, u64)>, JournalError> {
        self.read(count_notifications_by_receiver).await
    }

    /// Returns the oldest waiting notification of a receiver.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn next_notification(
        &self,
        receiver: &str,
    ) -> std::result::Result<Option<StoredNotification>, JournalError> {
        let receiver = receiver.to_owned();
        self.read(move |db| find_oldest_notification_for(db, &receiver)).await
    }

    /// Records the delivery of a notification: updates the facts of its receiver, and deletes the notification.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the notification still waits.
    pub async fn notification_delivered(&self, number: i64) -> std::result::Result<(), JournalError> {
        self.write(Durability::Synced, move |db| {
            let (learnt, forgotten): (Vec<Effect>, Vec<Effect>) =
                list_effects_of(db, number)?.into_iter().partition(|effect| effect.learnt);
            forgotten.iter().try_for_each(|effect| delete_fact(db, &effect.fact))?;
            learnt.iter().try_for_each(|effect| insert_fact(db, &effect.fact))?;
            delete_notification(db, number)
        })
        .await
    }

    /// Deletes a notification without delivery. The journal does not record its facts.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the notification still waits.
    pub async fn drop_notification(&self, number: i64) -> std::result::Result<(), JournalError> {
        self.write(Durability::Synced, move |db| delete_notification(db, number)).await
    }

    /// Deletes the waiting notifications and the recorded facts of the receivers. Returns the number of deleted
    /// notifications.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn drop_receivers(&self, receivers: Vec<String>) -> std::result::Result<u64, JournalError> {
        self.write(Durability::Unsynced, move |db| receivers.iter().map(|receiver| delete_receiver(db, receiver)).sum())
            .await
    }

    /// Deletes the waiting notifications of a receiver that were stored at `until` or before. Returns the number of
    /// deleted notifications.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn drop_notifications_until(
        &self,
        receiver: &str,
        until: DateTime<Utc>,
    ) -> std::result::Result<u64, JournalError> {
        let receiver = receiver.to_owned();
        self.write(Durability::Unsynced, move |db| delete_notifications_until(db, &receiver, until)).await
    }
}

/// Change of a receiver's facts at the delivery of a notification.
struct Effect {
    fact: ReceiverFact,
    /// True if the delivery adds the fact, false if the delivery deletes the fact.
    learnt: bool,
}

/// Lists the facts about a subject, ordered by receiver. The list already contains the changes that waiting
/// notifications will make.
fn list_facts_of(db: &Connection, subject: &str) -> Result<Vec<ReceiverFact>> {
    let mut statement = db.prepare_cached("SELECT * FROM notification_facts WHERE subject = ?1")?;
    let known: Vec<ReceiverFact> = statement.query_map([subject], read_fact)?.collect::<Result<_>>()?;
    let key = |fact: &ReceiverFact| (fact.receiver.clone(), fact.fact.clone());
    let mut known: BTreeMap<_, _> = known.into_iter().map(|fact| (key(&fact), fact)).collect();
    let mut statement = db.prepare_cached(
        "SELECT receiver, subject, fact, since, learnt FROM notification_effects
         JOIN notifications ON notifications.id = notification_effects.notification
         WHERE subject = ?1 ORDER BY notifications.id, notification_effects.id",
    )?;
    for effect in statement.query_map([subject], read_effect)? {
        let Effect { fact, learnt } = effect?;
        if learnt {
            known.entry(key(&fact)).or_insert(fact);
        } else {
            known.remove(&key(&fact));
        }
    }
    Ok(known.into_values().collect())
}

fn read_fact(row: &Row<'_>) -> Result<ReceiverFact> {
    Ok(ReceiverFact {
        receiver: row.get("receiver")?,
        subject: row.get("subject")?,
        fact: row.get("fact")?,
        since: parsed(row, "since")?,
    })
}

fn read_effect(row: &Row<'_>) -> Result<Effect> {
    Ok(Effect { fact: read_fact(row)?, learnt: row.get("learnt")? })
}

fn list_effects_of(db: &Connection, notification: i64) -> Result<Vec<Effect>> {
    let mut statement = db.prepare_cached(
        "SELECT receiver, subject, fact, since, learnt FROM notification_effects
         JOIN notifications ON notifications.id = notification_effects.notification
         WHERE notification = ?1 ORDER BY notification_effects.id",
    )?;
    statement.query_map([notification], read_effect)?.collect()
}

fn insert_effect(db: &Connection, notification: i64, fact: &ReceiverFact, learnt: bool) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO notification_effects (notification, fact, since, learnt) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute(params![notification, fact.fact, text(fact.since), learnt])?;
    Ok(())
}

/// Deletes the changes that waiting notifications would make to a fact. The caller records a newer state of the fact,
/// and a later delivery must not overwrite the newer state.
fn delete_effects_on(db: &Connection, fact: &ReceiverFact) -> Result<()> {
    let mut statement = db.prepare_cached(
        "DELETE FROM notification_effects WHERE fact = ?3
             AND notification IN (SELECT id FROM notifications WHERE receiver = ?1 AND subject = ?2)",
    )?;
    statement.execute([&fact.receiver, &fact.subject, &fact.fact])?;
    Ok(())
}

fn insert_fact(db: &Connection, fact: &ReceiverFact) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO notification_facts (subject, receiver, fact, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
    )?;
    statement.execute(params![fact.subject, fact.receiver, fact.fact, text(fact.since)])?;
    Ok(())
}

fn delete_fact(db: &Connection, fact: &ReceiverFact) -> Result<()> {
    let mut statement =
        db.prepare_cached("DELETE FROM notification_facts WHERE subject = ?1 AND receiver = ?2 AND fact = ?3")?;
    statement.execute([&fact.subject, &fact.receiver, &fact.fact])?;
    Ok(())
}

fn insert_notification(db: &Connection, notification: &NewNotification, now: DateTime<Utc>) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO notifications (message, receiver, subject, event, body, made)
         VALUES ('msg_' || lower(hex(randomblob(16))), ?1, ?2, ?3, ?4, ?5)",
    )?;
    let NewNotification { receiver, subject, event, body, learnt, forgotten } = notification;
    statement.execute(params![receiver, subject, event, body, text(now)])?;
    let number = db.last_insert_rowid();
    forgotten.iter().try_for_each(|fact| insert_effect(db, number, fact, false))?;
    learnt.iter().try_for_each(|fact| insert_effect(db, number, fact, true))
}

fn delete_oldest_beyond(db: &Connection, receiver: &str, most: u32) -> Result<u64> {
    let mut statement = db.prepare_cached(
        "DELETE FROM notifications WHERE receiver = ?1 AND id <=
            (SELECT id FROM notifications WHERE receiver = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    Ok(statement.execute(params![receiver, most])? as u64)
}

fn count_notifications_by_receiver(db: &Connection) -> Result<Vec<(String, u64)>> {
    let mut statement = db.prepare_cached(
        "SELECT receiver, count(*) AS waiting FROM notifications GROUP BY receiver ORDER BY receiver",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get("receiver")?, count(row, "waiting")?)))?;
    rows.collect()
}

fn find_oldest_notification_for(db: &Connection, receiver: &str) -> Result<Option<StoredNotification>> {
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

fn delete_notification(db: &Connection, number: i64) -> Result<()> {
    db.prepare_cached("DELETE FROM notifications WHERE id = ?1")?.execute([number])?;
    Ok(())
}

fn delete_notifications_until(db: &Connection, receiver: &str, until: DateTime<Utc>) -> Result<u64> {
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

    fn notification(receiver: &str, body: &str) -> NewNotification {
        let (receiver, subject, event, body) = (receiver.into(), "app".into(), "failure".into(), body.into());
        NewNotification { receiver, subject, event, body, learnt: Vec::new(), forgotten: Vec::new() }
    }

    fn known_fact(receiver: &str, fact: &str) -> ReceiverFact {
        ReceiverFact { receiver: receiver.into(), subject: "app".into(), fact: fact.into(), since: time_at(0) }
    }

    #[tokio::test]
    async fn waiting_notifications_and_facts_survive_restart_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        let notifications = vec![notification("a", "1"), notification("b", "2"), notification("a", "3")];
        let learnt = vec![known_fact("a", "failure"), known_fact("b", "failure"), known_fact("b", "held x")];
        assert_eq!(journal.store_notifications(notifications, learnt, Vec::new(), time_at(1)).await.unwrap(), 0);
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
        assert_eq!(journal.next_notification("a").await.unwrap().unwrap(), first, "with the same message id");
        assert!(first.message.starts_with("msg_") && first.message.len() == 36, "{}", first.message);
        assert_eq!((first.notice.body.as_str(), first.made), ("1", time_at(1)));
        journal.drop_notification(first.number).await.unwrap();
        assert_eq!(journal.next_notification("a").await.unwrap().unwrap().notice.body, "3");
        assert_eq!(journal.drop_receivers(vec!["a".into()]).await.unwrap(), 1);
        assert_eq!(journal.next_notification("a").await.unwrap(), None);
        assert_eq!(journal.facts_of("app").await.unwrap(), [known_fact("b", "failure")]);
    }

    /// Returns the facts that will be recorded after the delivery of all waiting notifications, and the number of facts
    /// that are recorded now.
    async fn known(journal: &Journal) -> (Vec<String>, i64) {
        let known_fact = journal.facts_of("app").await.unwrap();
        let recorded = journal.read(|db| db.query_row("SELECT count(*) FROM notification_facts", [], |row| row.get(0)));
        (known_fact.into_iter().map(|known_fact| known_fact.fact).collect(), recorded.await.unwrap())
    }

    #[tokio::test]
    async fn fact_is_known_after_delivery_and_never_after_drop() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let failure = || NewNotification { learnt: vec![known_fact("a", "failure")], ..notification("a", "fails") };
        let recovery = || NewNotification { forgotten: vec![known_fact("a", "failure")], ..notification("a", "well") };
        let keep = async |notification: NewNotification| {
            journal.store_notifications(vec![notification], vec![], vec![], time_at(1)).await.unwrap();
        };
        let next = async || journal.next_notification("a").await.unwrap().unwrap().number;
        let failing = vec!["failure".to_owned()];
        keep(failure()).await;
        assert_eq!(known(&journal).await, (failing.clone(), 0), "a second failure causes no notification");
        journal.drop_notification(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (vec![], 0), "the next failure causes a notification");
        keep(failure()).await;
        journal.notification_delivered(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (failing.clone(), 1));
        keep(recovery()).await;
        assert_eq!(known(&journal).await, (vec![], 1));
        journal.drop_notification(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (failing, 1), "the next success causes a notification");
        keep(recovery()).await;
        journal.notification_delivered(next().await).await.unwrap();
        assert_eq!(known(&journal).await, (vec![], 0));
    }

    #[tokio::test]
    async fn fact_recorded_without_message_overrides_waiting_notifications() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let held = NewNotification {
            learnt: vec![known_fact("a", "held x"), known_fact("a", "held y")],
            ..notification("a", "held")
        };
        journal.store_notifications(vec![held], vec![], vec![], time_at(1)).await.unwrap();
        journal.store_notifications(vec![], vec![], vec![known_fact("a", "held x")], time_at(2)).await.unwrap();
        assert_eq!(known(&journal).await, (vec!["held y".to_owned()], 0));
        journal.notification_delivered(journal.next_notification("a").await.unwrap().unwrap().number).await.unwrap();
        assert_eq!(known(&journal).await, (vec!["held y".to_owned()], 1));
    }

    #[tokio::test]
    async fn waiting_notifications_of_absent_receiver_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let many = (0..1003).map(|number| notification("a", &number.to_string()));
        let notifications = many.chain([notification("b", "0")]).collect();
        assert_eq!(journal.store_notifications(notifications, Vec::new(), Vec::new(), time_at(0)).await.unwrap(), 3);
        assert_eq!(journal.waiting_receivers().await.unwrap(), [("a".to_owned(), 1000), ("b".to_owned(), 1)]);
        assert_eq!(journal.next_notification("a").await.unwrap().unwrap().notice.body, "3");
    }
}
