//! Arrivals that are about to happen: recorded before a tag moves, and completed into evidence afterwards. The statements and the
//! methods of [`Journal`] for that alone.
//!
//! An intent goes in the transaction that writes its evidence. So where one is left, its run was cut off around the write, and whether the
//! tag moved is to be asked of the target.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Result, Row, named_params, params};

use super::group::Promise;
use super::owner;
use super::queries::{self, ARRIVAL, execute_cached, insert_arrival, insert_evidence, text};
use super::{Intent, Journal, JournalError, RunId};
use crate::copy::event::Arrival;
use crate::oci::Tag;

impl Journal {
    /// Records what is about to arrive. When this returns, the intent is on the disk.
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
        self.write(Promise::Kept, move |db| insert_arrival(db, "intents", run, &entry, &arrival)).await
    }

    /// Records that a digest arrived, in place of its intent. A power cut may take this as long as nothing durable was written behind it;
    /// the intent is then there still.
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
        self.write(Promise::Hint, move |db| {
            insert_evidence(db, run, &entry, &arrival)?;
            delete_intent_of(db, run, &arrival)
        })
        .await
    }

    /// The intents of runs of `entry` that are over, at one target or at all of them, by target and in the order in which they were recorded.
    /// Those of a run that is under way are its own.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn open_intents(
        &self,
        entry: &str,
        target: Option<&str>,
    ) -> std::result::Result<Vec<Intent>, JournalError> {
        let (entry, target) = (entry.to_owned(), target.map(str::to_owned));
        self.read(move |db| list_intents_of_ended_runs(db, &entry, target.as_deref())).await
    }

    /// How many intents there are of runs that are over, by entry; a run whose process is gone is over, also where that is not recorded yet.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn count_open_intents(&self) -> std::result::Result<Vec<(String, u64)>, JournalError> {
        let path = self.path().to_owned();
        self.read(move |db| count_intents_of_runs_that_are_over(db, &path)).await
    }

    /// Completes an intent into evidence, because the target was found at `now` to have what it is about. One that is gone is none.
    ///
    /// # Errors
    /// [`JournalError`]; the intent then stays open.
    pub async fn confirm_intent(&self, intent: i64, now: DateTime<Utc>) -> std::result::Result<(), JournalError> {
        self.write(Promise::Kept, move |db| {
            complete_intent(db, intent, now)?;
            delete_intent(db, intent)
        })
        .await
    }

    /// Drops an intent whose tag did not move.
    ///
    /// # Errors
    /// [`JournalError`]; the intent then stays open.
    pub async fn drop_intent(&self, intent: i64) -> std::result::Result<(), JournalError> {
        self.write(Promise::Hint, move |db| delete_intent(db, intent)).await
    }
}

fn delete_intent_of(db: &Connection, run: RunId, arrival: &Arrival) -> Result<()> {
    let statement = "DELETE FROM intents WHERE run = :run AND target = :target AND tag IS :tag AND digest = :digest";
    let parameters = named_params! {
        ":run": queries::by_now(db, run)?.0, ":target": arrival.target, ":tag": arrival.tag.as_ref().map(Tag::as_str),
        ":digest": arrival.digest.to_string(),
    };
    execute_cached(db, statement, parameters).map(drop)
}

fn list_intents_of_ended_runs(db: &Connection, entry: &str, target: Option<&str>) -> Result<Vec<Intent>> {
    let mut statement = db.prepare_cached(
        "SELECT intents.* FROM intents JOIN runs ON runs.id = intents.run
         WHERE intents.entry = ?1 AND (?2 IS NULL OR target = ?2) AND runs.ended IS NOT NULL ORDER BY target, intents.id",
    )?;
    let read = |row: &Row<'_>| Ok(Intent { id: row.get("id")?, arrival: queries::read_arrival(row)? });
    statement.query_map(params![entry, target], read)?.collect()
}

fn count_intents_of_runs_that_are_over(db: &Connection, journal: &Path) -> Result<Vec<(String, u64)>> {
    let mut statement = db.prepare_cached(
        "SELECT intents.entry AS entry, count(*) AS open, runs.ended IS NOT NULL AS is_over, lock
         FROM intents JOIN runs ON runs.id = intents.run JOIN processes ON processes.id = runs.process GROUP BY runs.id",
    )?;
    let mut open = BTreeMap::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if row.get("is_over")? || !owner::lives(journal, &row.get::<_, String>("lock")?) {
            *open.entry(row.get("entry")?).or_default() += queries::count(row, "open")?;
        }
    }
    Ok(open.into_iter().collect())
}

fn complete_intent(db: &Connection, intent: i64, now: DateTime<Utc>) -> Result<()> {
    let statement =
        format!("INSERT INTO evidence ({ARRIVAL}, recovered) SELECT {ARRIVAL}, ?2 FROM intents WHERE id = ?1");
    execute_cached(db, &statement, params![intent, text(now)]).map(drop)
}

fn delete_intent(db: &Connection, intent: i64) -> Result<()> {
    execute_cached(db, "DELETE FROM intents WHERE id = ?1", [intent]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arrival, at, begun, place};
    use super::*;
    use crate::journal::{EvidenceFilter, Outcome, RunEnd, TagCounts};

    async fn end(journal: &Journal, run: RunId) {
        let (outcome, tags) = (Outcome::Failed, TagCounts::default());
        journal
            .end_run(run, RunEnd { outcome, tags, bytes: 0, error: None, postponed_until: None }, at(9))
            .await
            .unwrap();
    }

    async fn evidence(journal: &Journal) -> Vec<(Arrival, Option<DateTime<Utc>>)> {
        let found = journal.evidence(&EvidenceFilter::default()).await.unwrap();
        found.into_iter().map(|record| (record.arrival, record.recovered)).collect()
    }

    #[tokio::test]
    async fn an_intent_goes_with_the_evidence_of_its_own_tag() {
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let run = begun(&journal, "a", 0).await;
        let untagged = Arrival { tag: None, ..arrival("v3", 3) };
        for arrival in [&arrival("v1", 1), &arrival("v2", 2), &untagged] {
            journal.record_intent(run, "a", arrival).await.unwrap();
        }
        assert_eq!(journal.open_intents("a", None).await.unwrap(), [], "the run is under way");
        journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
        journal.record_arrival(run, "a", &untagged).await.unwrap();
        end(&journal, run).await;
        let open = journal.open_intents("a", None).await.unwrap();
        assert_eq!(open.iter().map(|intent| &intent.arrival).collect::<Vec<_>>(), [&arrival("v2", 2)]);
        assert_eq!(journal.open_intents("a", Some("elsewhere")).await.unwrap(), []);
        assert_eq!(journal.open_intents("b", None).await.unwrap(), []);
        assert_eq!(journal.count_open_intents().await.unwrap(), [("a".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_confirmed_intent_becomes_evidence_once_and_a_dropped_one_none() {
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let run = begun(&journal, "a", 0).await;
        let moved = Arrival { previous: Some(crate::oci::Digest::of(b"before")), ..arrival("v1", 1) };
        journal.record_intent(run, "a", &moved).await.unwrap();
        journal.record_intent(run, "a", &arrival("v2", 2)).await.unwrap();
        end(&journal, run).await;
        let open = journal.open_intents("a", None).await.unwrap();
        for _ in 0..2 {
            journal.confirm_intent(open[0].id, at(30)).await.unwrap();
        }
        journal.drop_intent(open[1].id).await.unwrap();
        assert_eq!(evidence(&journal).await, [(moved, Some(at(30)))]);
        assert_eq!(journal.open_intents("a", None).await.unwrap(), []);
    }

    #[tokio::test]
    async fn intents_of_a_process_that_is_gone_survive_it() {
        let place = place();
        let journal = Journal::open(&place.path).unwrap();
        let gone = Journal::open(&place.path).unwrap();
        let run = begun(&gone, "a", 0).await;
        gone.record_intent(run, "a", &arrival("v1", 1)).await.unwrap();
        assert_eq!(journal.open_intents("a", None).await.unwrap(), [], "its process lives");
        drop(gone);
        assert_eq!(
            journal.count_open_intents().await.unwrap(),
            [("a".to_owned(), 1)],
            "before anybody records the death"
        );
        begun(&journal, "a", 5).await;
        assert_eq!(journal.open_intents("a", None).await.unwrap().len(), 1);
    }
}
