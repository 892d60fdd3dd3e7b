//! Intents: arrivals that are recorded before a tag is written, and completed into evidence afterwards. This file has
//! only the statements and the methods of [`Journal`] for intents.
//!
//! An intent is deleted in the transaction that writes its evidence. So an open intent means that its run was
//! interrupted before, during or after the write, and only the target can show if the tag was written.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, named_params, params};

use super::arrivals::{self, ARRIVAL, insert_arrival, insert_evidence, listed_text};
use super::group::Durability;
use super::owner;
use super::queries::{self, execute_cached, text};
use super::{EvidenceFilter, EvidenceRecord, Intent, Journal, JournalError, RunId};
use crate::copy::event::Arrival;
use crate::oci::{Digest, Tag};

impl Journal {
    /// Records an arrival that is about to happen. When this method returns, the intent is on the disk.
    ///
    /// # Errors
    /// [`JournalError`]; there is then no intent, and the tag must not be written.
    pub async fn record_intent(
        &self,
        run: RunId,
        entry: &str,
        arrival: &Arrival,
    ) -> std::result::Result<(), JournalError> {
        let (entry, arrival) = (entry.to_owned(), arrival.clone());
        self.write(Durability::Kept, move |db| insert_arrival(db, "intents", run, &entry, &arrival)).await
    }

    /// Records that a digest arrived, in place of its intent. Until the next durable write, a power cut may delete this
    /// record. The intent is then still open.
    ///
    /// # Errors
    /// [`JournalError`]; there is then no evidence.
    pub async fn record_arrival(
        &self,
        run: RunId,
        entry: &str,
        arrival: &Arrival,
    ) -> std::result::Result<(), JournalError> {
        let (entry, arrival) = (entry.to_owned(), arrival.clone());
        self.write(Durability::Hint, move |db| {
            insert_evidence(db, run, &entry, &arrival)?;
            delete_intent_of(db, run, &arrival)
        })
        .await
    }

    /// Withdraws an intent of a run: nothing was written.
    ///
    /// # Errors
    /// [`JournalError`]; the intent then stays open.
    pub async fn withdraw_intent(&self, run: RunId, arrival: &Arrival) -> std::result::Result<(), JournalError> {
        let arrival = arrival.clone();
        self.write(Durability::Hint, move |db| delete_intent_of(db, run, &arrival)).await
    }

    /// Returns the intents of all ended runs, by target and in the order in which they were recorded. Intents of a run
    /// in progress belong to that run.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn open_intents(&self) -> std::result::Result<Vec<Intent>, JournalError> {
        self.read(list_intents_of_ended_runs).await
    }

    /// Returns the intents of ended runs, as the evidence that each would become, the latest first. It is unknown if
    /// their tags were written. A run whose process has ended counts as ended, even if that is not recorded yet.
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
            let is_over = |(_, ended, lock): &(_, bool, String)| *ended || !owner::lives(&path, lock);
            Ok(open.filter(is_over).map(|(record, ..)| record).collect())
        })
        .await
    }

    /// Completes an intent into evidence, because the target had its content at `now`, under this digest. Returns false
    /// if the intent is not open any more: another run has handled it in the meantime.
    ///
    /// # Errors
    /// [`JournalError`]; the intent then stays open.
    pub async fn confirm_intent(
        &self,
        intent: i64,
        digest: Digest,
        now: DateTime<Utc>,
    ) -> std::result::Result<bool, JournalError> {
        self.write(Durability::Kept, move |db| {
            complete_intent(db, intent, digest, now)?;
            delete_intent(db, intent)
        })
        .await
    }

    /// Returns true if a later run found the digest of an intent under its tag at the target, before that run overwrote
    /// the tag.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn was_found_later(&self, intent: i64) -> std::result::Result<bool, JournalError> {
        self.read(move |db| find_later_sight(db, intent)).await
    }

    /// Drops an intent whose tag was not written. Returns false if the intent is not open any more.
    ///
    /// # Errors
    /// [`JournalError`]; the intent then stays open.
    pub async fn drop_intent(&self, intent: i64) -> std::result::Result<bool, JournalError> {
        self.write(Durability::Hint, move |db| delete_intent(db, intent)).await
    }
}

/// Deletes the intent that an arrival completes. A list of referrers is identified by its intended content: its digest
/// was not known before.
fn delete_intent_of(db: &Connection, run: RunId, arrival: &Arrival) -> Result<()> {
    let statement = "DELETE FROM intents WHERE run = :run AND target = :target AND tag IS :tag AND kind = :kind
         AND CASE kind WHEN 'referrers_list' THEN listed IS :listed ELSE digest = :digest END";
    let parameters = named_params! {
        ":run": queries::by_now(db, run)?.0, ":target": arrival.target, ":tag": arrival.tag.as_ref().map(Tag::as_str),
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
    // The digest of a list of referrers was not known before.
    execute_cached(db, "UPDATE intents SET digest = ?2 WHERE id = ?1", params![intent, digest.to_string()])?;
    let statement =
        format!("INSERT INTO evidence ({ARRIVAL}, recovered) SELECT {ARRIVAL}, ?2 FROM intents WHERE id = ?1");
    execute_cached(db, &statement, params![intent, text(now)]).map(drop)
}

/// Returns true if a run after that of an intent has the intent's digest as the previous one, in its evidence or
/// intents.
fn find_later_sight(db: &Connection, intent: i64) -> Result<bool> {
    let mut statement = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM evidence AS later WHERE later.target = open.target AND later.tag = open.tag
                            AND later.previous = open.digest AND later.run > open.run)
             OR EXISTS (SELECT 1 FROM intents AS later WHERE later.target = open.target AND later.tag = open.tag
                            AND later.previous = open.digest AND later.run > open.run)
         FROM intents AS open WHERE open.id = ?1",
    )?;
    Ok(statement.query_row([intent], |row| row.get(0)).optional()?.unwrap_or_default())
}

/// Deletes an intent. Returns true if there was one.
fn delete_intent(db: &Connection, intent: i64) -> Result<bool> {
    execute_cached(db, "DELETE FROM intents WHERE id = ?1", [intent]).map(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arrival, begun, place, time_at};
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
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let run = begun(&journal, "a", 0).await;
        let untagged = Arrival { tag: None, ..arrival("v3", 3) };
        for arrival in [&arrival("v1", 1), &arrival("v2", 2), &untagged] {
            journal.record_intent(run, "a", arrival).await.unwrap();
        }
        assert_eq!(journal.open_intents().await.unwrap(), [], "the run is under way");
        journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
        journal.record_arrival(run, "a", &untagged).await.unwrap();
        end(&journal, run).await;
        let open = journal.open_intents().await.unwrap();
        assert_eq!(open.iter().map(|intent| &intent.arrival).collect::<Vec<_>>(), [&arrival("v2", 2)]);
        assert_eq!(open[0].entry, "a");
        assert_eq!(in_doubt(&journal, EvidenceFilter::default()).await, [arrival("v2", 2)]);
        let of_other = EvidenceFilter { entry: Some("b".to_owned()), ..EvidenceFilter::default() };
        assert_eq!(in_doubt(&journal, of_other).await, []);
    }

    #[tokio::test]
    async fn confirmed_intent_becomes_evidence_once_dropped_one_never() {
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let run = begun(&journal, "a", 0).await;
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
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let gone = Journal::open(&place.path).unwrap();
        let run = begun(&gone, "a", 0).await;
        gone.record_intent(run, "a", &arrival("v1", 1)).await.unwrap();
        assert_eq!(journal.open_intents().await.unwrap(), [], "its process lives");
        drop(gone);
        assert_eq!(
            in_doubt(&journal, EvidenceFilter::default()).await,
            [arrival("v1", 1)],
            "before its death is recorded"
        );
        begun(&journal, "a", 5).await;
        assert_eq!(journal.open_intents().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn list_intent_is_deleted_with_evidence_of_its_content() {
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let run = begun(&journal, "a", 0).await;
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
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let run = begun(&journal, "a", 0).await;
        let left = |number: usize| LeftBehind { what: format!("referrer {number}"), reason: "denied ".repeat(1000) };
        let many = Arrival { left_behind: (0..1500).map(left).collect(), ..arrival("v1", 1) };
        journal.record_arrival(run, "a", &many).await.unwrap();
        let [(kept, _)] = &evidence(&journal).await[..] else { panic!("one row") };
        assert_eq!((kept.left_behind.len(), kept.left_behind[1000].what.as_str()), (1001, "500 more"));
        assert_eq!(kept.left_behind[0].reason.len(), 2000);
    }
}
