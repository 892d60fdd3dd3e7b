//! Query for the last runs of many entries, in short form.

use rusqlite::{Connection, Result, params};

use super::record::RunSummary;
use crate::journal::queries::{self, parsed, parsed_if_any};
use crate::journal::{Journal, JournalError, RunId};

impl Journal {
    /// Returns the last runs of each of the `entries`: entry by entry, and the latest run of an entry first. `each` is
    /// the maximum number of runs for each entry. If the process of a run ended without recording the end of the run,
    /// the run is returned as in progress.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn latest_marks(&self, entries: Vec<String>, each: u32) -> Result<Vec<RunSummary>, JournalError> {
        self.read(move |db| {
            let mut marks = Vec::new();
            for entry in &entries {
                list_last_runs_of(db, entry, each, &mut marks)?;
            }
            Ok(marks)
        })
        .await
    }
}

fn list_last_runs_of(db: &Connection, entry: &str, at_most: u32, marks: &mut Vec<RunSummary>) -> Result<()> {
    let mut statement = db.prepare_cached(
        "SELECT id, started, ended, outcome, bytes FROM runs WHERE entry = ?1 ORDER BY started DESC, id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![entry, at_most], |row| {
        Ok(RunSummary {
            run: RunId::numbered(row.get("id")?),
            entry: entry.to_owned(),
            started: parsed(row, "started")?,
            ended: parsed_if_any(row, "ended")?,
            outcome: queries::outcome(row)?,
            bytes: queries::count(row, "bytes")?,
        })
    })?;
    rows.into_iter().try_for_each(|mark| {
        marks.push(mark?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::journal::{Outcome, RunEnd, RunStart, TagCounts, Trigger};

    async fn run(journal: &Journal, entry: &str, minute: i64, end: Option<(Outcome, u64)>) {
        let at = DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap();
        let RunStart::Started(id) = journal.begin_run(entry, Trigger::Manual, at).await.unwrap() else {
            panic!("not started")
        };
        if let Some((outcome, bytes)) = end {
            let end = RunEnd { outcome, tags: TagCounts::default(), bytes, error: None, deferred_until: None };
            journal.end_run(id, end, at).await.unwrap();
        }
    }

    #[tokio::test]
    async fn each_entry_has_its_last_runs_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        for minute in 0..5 {
            run(&journal, "a", minute, Some((Outcome::Succeeded, minute as u64))).await;
            run(&journal, "other", minute, Some((Outcome::Succeeded, 0))).await;
        }
        run(&journal, "a", 5, Some((Outcome::Failed, 0))).await;
        run(&journal, "b", 6, None).await;
        let reader = Journal::open_existing(&path).unwrap();
        let marks = reader.latest_marks(vec!["a".into(), "never".into(), "b".into()], 3).await.unwrap();
        let actual: Vec<_> = marks.iter().map(|mark| (mark.entry.as_str(), mark.outcome, mark.bytes)).collect();
        let succeeded = Some(Outcome::Succeeded);
        assert_eq!(actual, [("a", Some(Outcome::Failed), 0), ("a", succeeded, 4), ("a", succeeded, 3), ("b", None, 0)]);
        assert!(marks[0].ended.is_some() && marks[3].ended.is_none());
    }
}
