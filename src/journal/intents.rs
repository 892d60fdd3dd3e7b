//! Intents: records of arrivals that are written before the tag is written at the target. After the tag is written, the
//! intent is replaced by evidence. This file contains the statements and the methods of [`Journal`] for intents.
//!
//! An intent is deleted in the transaction that writes its evidence. If the run of an open intent has ended, the run
//! was interrupted before, during or after the write of the tag. Only a query of the target can show if the tag was
//! written.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, named_params, params};

use super::arrivals::{self, ARRIVAL, insert_arrival, insert_evidence, listed_text};
use super::group::Durability;
use super::process_lock;
use super::queries::{self, execute_cached, text};
use super::{EvidenceFilter, EvidenceRecord, Intent, Journal, JournalError, RunId};
use crate::copy::event::Arrival;
use crate::oci::{Digest, Tag};

impl Journal {
    /// Records the intent of a write of a tag. When this method returns, the intent is on the disk.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, no intent is recorded, and the tag must not be written.
    pub async fn record_intent(
        &self,
        run: RunId,
        entry: &str,
        arrival: &Arrival,
    ) -> std::result::Result<(), JournalError> {
        let (entry, arrival) = (entry.to_owned(), arrival.clone());
        self.write(Durability::Synced, move |db| insert_arrival(db, "intents", run, &entry, &arrival)).await
    }

    /// Records the evidence of an arrival, and deletes its intent. Until the next durable write, a power failure may
    /// undo this change. In this case, the intent is still open.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, no evidence is recorded.
    pub async fn record_arrival(
        &self,
        run: RunId,
        entry: &str,
        arrival: &Arrival,
    ) -> std::result::Result<(), JournalError> {
        let (entry, arrival) = (entry.to_owned(), arrival.clone());
        self.write(Durability::Unsynced, move |db| {
            insert_evidence(db, run, &entry, &arrival)?;
            delete_intent_of(db, run, &arrival)
        })
        .await
    }

    /// Deletes the intent of an arrival whose tag was not written.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the intent stays open.
    pub async fn withdraw_intent(&self, run: RunId, arrival: &Arrival) -> std::result::Result<(), JournalError> {
        let arrival = arrival.clone();
        self.write(Durability::Unsynced, move |db| delete_intent_of(db, run, &arrival)).await
    }

    /// Returns the open intents of all ended runs, ordered by target and then by the time of their records. Intents of
    /// a run in progress are not returned, because that run completes them.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn open_intents(&self) -> std::result::Result<Vec<Intent>, JournalError> {
        self.read(list_intents_of_ended_runs).await
    }

    /// Returns the open intents of ended runs in the form of evidence, the latest first. The journal does not know if
    /// their tags were written. If the process of a run has ended, the run counts as ended, even if its end is not
    /// recorded yet.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn evidence_in_doubt(
        &self,
        filter: &EvidenceFilter,
    ) -> std::result::Result<Vec<EvidenceRecord>, JournalError> {
        let (filter, path) = (filter.clone(), self.path().to_owned());
        self.read(move |db| {
            let open = arrivals::list_intents(db, &filter)?.into_iter();
            let is_over = |(_, ended, lock): &(_, bool, String)| *ended || !process_lock::is_alive(&path, lock);
            Ok(open.filter(is_over).map(|(record, ..)| record).collect())
        })
        .await
    }

    /// Replaces an intent with evidence, because the tag was written. `digest` is the written digest, and `now` is
    /// recorded as the time of the recovery. Returns false if the intent is not open any more, because another run has
    /// handled the intent.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the intent stays open.
    pub async fn confirm_intent(
        &self,
        intent: i64,
        digest: Digest,
        now: DateTime<Utc>,
    ) -> std::result::Result<bool, JournalError> {
        self.write(Durability::Synced, move |db| {
            complete_intent(db, intent, digest, now)?;
            delete_intent(db, intent)
        })
        .await
    }

    /// Returns true if a later run recorded the digest of an intent as the previous digest of the tag at the target.
    /// This proves that the tag of the intent was written, and was overwritten since.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn was_found_later(&self, intent: i64) -> std::result::Result<bool, JournalError> {
        self.read(move |db| is_previous_digest_later(db, intent)).await
    }

    /// Deletes an intent whose tag was not written. Returns false if the intent is not open any more.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the intent stays open.
    pub async fn drop_intent(&self, intent: i64) -> std::result::Result<bool, JournalError> {
        self.write(Durability::Unsynced, move |db| delete_intent(db, intent)).await
    }
}

/// Deletes the intent of an arrival. The intent of a list of referrers is found by the intended content of the list,
/// because the digest of the list is unknown before the write.
fn delete_intent_of(db: &Connection, run: RunId, arrival: &Arrival) -> Result<()> {
    let statement = "DELETE FROM intents WHERE run = :run AND target = :target AND tag IS :tag AND kind = :kind
         AND CASE kind WHEN 'referrers_list' THEN listed IS :listed ELSE digest = :digest END";
    let parameters = named_params! {
        ":run": queries::current_run(db, run)?.0, ":target": arrival.target,
        ":tag": arrival.tag.as_ref().map(Tag::as_str),
        ":kind": arrival.kind.word(), ":listed": listed_text(&arrival.listed), ":digest": arrival.digest.to_string(),
    };
    execute_cached(db, statement, parameters).map(drop)
}

fn list_intents_of_ended_runs(db: &Connection) -> Result<Vec<Intent>> {
    let mut statement = db.prepare_cached(
        "SELECT intents.* FROM intents JOIN runs ON runs.id = intents.run
         WHERE runs.ended IS NOT NULL ORDER BY target, intents.id",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Intent { id: row.get("id")?, entry: row.get("entry")?, arrival: arrivals::read_arrival(row)? })
    };
    statement.query_map([], read)?.collect()
}

fn complete_intent(db: &Connection, intent: i64, digest: Digest, now: DateTime<Utc>) -> Result<()> {
    // The digest of a list of referrers is unknown when its intent is recorded.
    execute_cached(db, "UPDATE intents SET digest = ?2 WHERE id = ?1", params![intent, digest.to_string()])?;
    let statement =
        format!("INSERT INTO evidence ({ARRIVAL}, recovered) SELECT {ARRIVAL}, ?2 FROM intents WHERE id = ?1");
    execute_cached(db, &statement, params![intent, text(now)]).map(drop)
}

/// Returns true if evidence or an intent of a later run has the digest of this intent as the previous digest of the
/// same tag at the same target.
fn is_previous_digest_later(db: &Connection, intent: i64) -> Result<bool> {
    let mut statement = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM evidence AS later WHERE later.target = open.target AND later.tag = open.tag
                            AND later.previous = open.digest AND later.run > open.run)
             OR EXISTS (SELECT 1 FROM intents AS later WHERE later.target = open.target AND later.tag = open.tag
                            AND later.previous = open.digest AND later.run > open.run)
         FROM intents AS open WHERE open.id = ?1",
    )?;
    Ok(statement.query_row([intent], |row| row.get(0)).optional()?.unwrap_or_default())
}

/// Deletes an intent. Returns false if the intent does not exist.
fn delete_intent(db: &Connection, intent: i64) -> Result<bool> {
    execute_cached(db, "DELETE FROM intents WHERE id = ?1", [intent]).map(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arrival, start_run, temp_journal, time_at};
    use super::*;
    use crate::copy::event::{ArrivalKind, LeftBehind};
    use crate::journal::{Outcome, RunEnd, TagCounts};

    async fn end(journal: &Journal, run: RunId) {
        let (outcome, tags) = (Outcome::Failed, TagCounts::default());
        journal
            .end_run(run, RunEnd { outcome, tags, bytes: 0, error: None, deferred_until: None }, time_at(9))
            .await
            .unwrap();
    }

    async fn evidence(journal: &Journal) -> Vec<(Arrival, Option<DateTime<Utc>>)> {
        let found = journal.evidence(&EvidenceFilter::default()).await.unwrap();
        found.into_iter().map(|record| (record.arrival, record.recovered)).collect()
    }

    async fn in_doubt(journal: &Journal, filter: EvidenceFilter) -> Vec<Arrival> {
        journal.evidence_in_doubt(&filter).await.unwrap().into_iter().map(|record| record.arrival).collect()
    }

    #[tokio::test]
    async fn intent_is_deleted_with_evidence_of_its_tag() {
        let temp = temp_journal();
        let journal = Journal::open(&temp.path).unwrap();
        let run = start_run(&journal, "a", 0).await;
        let untagged = Arrival { tag: None, ..arrival("v3", 3) };
        for arrival in [&arrival("v1", 1), &arrival("v2", 2), &untagged] {
            journal.record_intent(run, "a", arrival).await.unwrap();
        }
        assert_eq!(journal.open_intents().await.unwrap(), [], "the run is in progress");
        journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
        journal.record_arrival(run, "a", &untagged).await.unwrap();
        end(&journal, run).await;
        let open = journal.open_intents().await.unwrap();
        assert_eq!(open.iter().map(|intent| &intent.arrival).collect::<Vec<_>>(), [&arrival("v2", 2)]);
        assert_eq!(open[0].entry, "a");
        assert_eq!(in_doubt(&journal, EvidenceFilter::default()).await, [arrival("v2", 2)]);
        let other_entry = EvidenceFilter { entries: vec!["b".to_owned()], ..EvidenceFilter::default() };
        assert_eq!(in_doubt(&journal, other_entry).await, []);
    }

    #[tokio::test]
    async fn confirmed_intent_becomes_evidence_once_dropped_one_never() {
        let temp = temp_journal();
        let journal = Journal::open(&temp.path).unwrap();
        let run = start_run(&journal, "a", 0).await;
        let moved = Arrival { previous: Some(crate::oci::Digest::of(b"before")), ..arrival("v1", 1) };
        journal.record_intent(run, "a", &moved).await.unwrap();
        journal.record_intent(run, "a", &arrival("v2", 2)).await.unwrap();
        end(&journal, run).await;
        let open = journal.open_intents().await.unwrap();
        for is_open in [true, false] {
            assert_eq!(journal.confirm_intent(open[0].id, open[0].arrival.digest, time_at(30)).await.unwrap(), is_open);
        }
        for is_open in [true, false] {
            assert_eq!(journal.drop_intent(open[1].id).await.unwrap(), is_open);
        }
        assert_eq!(evidence(&journal).await, [(moved, Some(time_at(30)))]);
        assert_eq!(journal.open_intents().await.unwrap(), []);
    }

    #[tokio::test]
    async fn intents_survive_their_process() {
        let temp = temp_journal();
        let journal = Journal::open(&temp.path).unwrap();
        let ended = Journal::open(&temp.path).unwrap();
        let run = start_run(&ended, "a", 0).await;
        ended.record_intent(run, "a", &arrival("v1", 1)).await.unwrap();
        assert_eq!(journal.open_intents().await.unwrap(), [], "the process of the run is alive");
        drop(ended);
        assert_eq!(
            in_doubt(&journal, EvidenceFilter::default()).await,
            [arrival("v1", 1)],
            "before the end of the process is recorded"
        );
        start_run(&journal, "a", 5).await;
        assert_eq!(journal.open_intents().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn list_intent_is_deleted_with_evidence_of_its_content() {
        let temp = temp_journal();
        let journal = Journal::open(&temp.path).unwrap();
        let run = start_run(&journal, "a", 0).await;
        let digest = |name: &str| Digest::of(name.as_bytes());
        let list = |listed: &[&str]| Arrival {
            kind: ArrivalKind::ReferrersList,
            listed: listed.iter().map(|name| digest(name)).collect(),
            ..arrival("v1", 1)
        };
        for intended in [list(&["a"]), list(&["a", "b"]), list(&["c"]), arrival("v1", 1)] {
            journal.record_intent(run, "a", &intended).await.unwrap();
        }
        let written = Arrival { digest: digest("written"), ..list(&["a", "b"]) };
        journal.record_arrival(run, "a", &written).await.unwrap();
        journal.withdraw_intent(run, &list(&["c"])).await.unwrap();
        end(&journal, run).await;
        let open = journal.open_intents().await.unwrap();
        assert_eq!(
            open.iter().map(|intent| intent.arrival.clone()).collect::<Vec<_>>(),
            [list(&["a"]), arrival("v1", 1)]
        );
        assert!(journal.confirm_intent(open[0].id, digest("found"), time_at(30)).await.unwrap());
        let found = Arrival { digest: digest("found"), ..list(&["a"]) };
        assert_eq!(evidence(&journal).await, [(found, Some(time_at(30))), (written, None)]);
    }

    #[tokio::test]
    async fn left_behind_items_are_kept_up_to_thousand_plus_count() {
        let temp = temp_journal();
        let journal = Journal::open(&temp.path).unwrap();
        let run = start_run(&journal, "a", 0).await;
        let item = |number: usize| LeftBehind { what: format!("referrer {number}"), reason: "denied ".repeat(1000) };
        let many = Arrival { left_behind: (0..1500).map(item).collect(), ..arrival("v1", 1) };
        journal.record_arrival(run, "a", &many).await.unwrap();
        let [(recorded, _)] = &evidence(&journal).await[..] else { panic!("one row") };
        assert_eq!((recorded.left_behind.len(), recorded.left_behind[1000].what.as_str()), (1001, "500 more"));
        assert_eq!(recorded.left_behind[0].reason.len(), 2000);
    }
}
