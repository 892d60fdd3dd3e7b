//! Progress of unfinished uploads. This file contains the statements and the methods of [`Journal`] for uploads.

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::group::Durability;
use super::queries::{count, current_run, number, text};
use super::{Journal, JournalError, RunId};
use crate::oci::Digest;

/// Idle time after which the record of an upload is deleted. No known registry keeps an idle upload longer.
const MAX_IDLE: TimeDelta = TimeDelta::days(7);

/// Progress of an unfinished upload of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    /// Target repository of the blob.
    pub target: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Location of the upload from the response of the registry. Only clients with write access to the repository can
    /// use this location.
    pub session: String,
    /// Number of uploaded bytes.
    pub stored: u64,
    /// State of the hash of the uploaded bytes, from [`crate::oci::Digester::to_state`].
    pub hashed: Vec<u8>,
    /// Values that `stored` and `hashed` will have after the next chunk. The run records these values before the run
    /// sends the chunk. `None` if no chunk was about to be sent.
    pub ahead: Option<(u64, Vec<u8>)>,
}

impl Journal {
    /// Records the progress of an upload of a run. After this method has returned, the record survives a kill of the
    /// process. A power failure can delete the record.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record_upload(&self, run: RunId, upload: UploadRecord) -> std::result::Result<(), JournalError> {
        let now = Utc::now();
        self.write(Durability::Unsynced, move |db| record_upload(db, run, &upload, now)).await
    }

    /// Assigns an unfinished upload of an ended run to the run `run`, and returns the upload. Returns `None` if no such
    /// upload of this blob exists. If several runs request the same upload, only the first run receives the upload.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn adopt_unfinished_upload(
        &self,
        run: RunId,
        target: &str,
        digest: Digest,
    ) -> std::result::Result<Option<UploadRecord>, JournalError> {
        let (owned, now) = (target.to_owned(), Utc::now());
        let Some((previous_run, upload)) =
            self.read(move |db| find_upload_of_ended_run(db, &owned, digest, now)).await?
        else {
            return Ok(None);
        };
        let target = target.to_owned();
        let was_taken =
            self.write(Durability::Unsynced, move |db| hand_over(db, &target, digest, previous_run, run)).await?;
        Ok(was_taken.then_some(upload))
    }

    /// Deletes the record of an upload that has ended or no longer exists. This method returns once the deletion is
    /// queued.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn forget_upload(&self, target: &str, digest: Digest) -> std::result::Result<(), JournalError> {
        let target = target.to_owned();
        self.queue_write(move |db| forget_upload(db, &target, digest)).await
    }
}

fn record_upload(db: &Connection, run: RunId, upload: &UploadRecord, now: DateTime<Utc>) -> Result<()> {
    db.prepare_cached("DELETE FROM uploads WHERE recorded < ?1")?.execute([text(now - MAX_IDLE)])?;
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO uploads (target, digest, run, session, stored, hashed, recorded, ahead, ahead_hashed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let run = current_run(db, run)?;
    let UploadRecord { target, digest, session, stored, hashed, ahead } = upload;
    let (ahead, ahead_hashed) = ahead.as_ref().map(|(stored, hashed)| (number(*stored), hashed)).unzip();
    let (digest, stored, recorded) = (digest.to_string(), number(*stored), text(now));
    statement.execute(params![target, digest, run.0, session, stored, hashed, recorded, ahead, ahead_hashed])?;
    Ok(())
}

/// Returns an unfinished upload of an ended run, and the number of the ended run.
fn find_upload_of_ended_run(
    db: &Connection,
    target: &str,
    digest: Digest,
    now: DateTime<Utc>,
) -> Result<Option<(RunId, UploadRecord)>> {
    let mut statement = db.prepare_cached(
        "SELECT uploads.* FROM uploads JOIN runs ON runs.id = uploads.run
         WHERE target = ?1 AND digest = ?2 AND runs.ended IS NOT NULL AND recorded >= ?3",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let (run, session, hashed) = (RunId(row.get("run")?), row.get("session")?, row.get("hashed")?);
        let ahead = match row.get("ahead_hashed")? {
            Some(hashed) => Some((count(row, "ahead")?, hashed)),
            None => None,
        };
        let stored = count(row, "stored")?;
        let upload = UploadRecord { target: target.to_owned(), digest, session, stored, hashed, ahead };
        Ok((run, upload))
    };
    statement.query_row(params![target, digest.to_string(), text(now - MAX_IDLE)], read).optional()
}

/// Assigns the upload to the run `to`. Returns false if the upload no longer belongs to the run `from`.
fn hand_over(db: &Connection, target: &str, digest: Digest, from: RunId, to: RunId) -> Result<bool> {
    let to = current_run(db, to)?;
    let mut statement =
        db.prepare_cached("UPDATE uploads SET run = ?4 WHERE target = ?1 AND digest = ?2 AND run = ?3")?;
    Ok(statement.execute(params![target, digest.to_string(), from.0, to.0])? == 1)
}

fn forget_upload(db: &Connection, target: &str, digest: Digest) -> Result<()> {
    let mut statement = db.prepare_cached("DELETE FROM uploads WHERE target = ?1 AND digest = ?2")?;
    statement.execute(params![target, digest.to_string()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Outcome, RunEnd, RunStart, TagCounts, Trigger};

    async fn start_run(journal: &Journal) -> RunId {
        match journal.begin_run("a", Trigger::Manual, Utc::now()).await.unwrap() {
            RunStart::Started(run) => run,
            other => panic!("{other:?}"),
        }
    }

    async fn end(journal: &Journal, run: RunId) {
        let (outcome, tags) = (Outcome::Interrupted, TagCounts::default());
        let end = RunEnd { outcome, tags, bytes: 0, error: None, deferred_until: None };
        journal.end_run(run, end, Utc::now()).await.unwrap();
    }

    fn upload(stored: u64) -> UploadRecord {
        let (target, session) = ("t/a".to_owned(), "http://t/v2/a/blobs/uploads/1".to_owned());
        UploadRecord { target, digest: Digest::of(b"x"), session, stored, hashed: vec![1, 2, 3], ahead: None }
    }

    #[tokio::test]
    async fn ended_run_leaves_upload_as_last_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let run = start_run(&journal).await;
        let next = RunId(run.0 + 1);
        let take = async |target: &str| journal.adopt_unfinished_upload(next, target, Digest::of(b"x")).await.unwrap();
        journal.record_upload(run, upload(10)).await.unwrap();
        let last = UploadRecord { ahead: Some((30, vec![4, 5])), ..upload(20) };
        journal.record_upload(run, last.clone()).await.unwrap();
        assert_eq!(take("t/a").await, None, "its run is in progress");
        end(&journal, run).await;
        assert_eq!(start_run(&journal).await, next);
        assert_eq!(take("t/b").await, None);
        assert_eq!(take("t/a").await, Some(last.clone()));
        assert_eq!(take("t/a").await, None, "another run has taken the upload");
        end(&journal, next).await;
        assert_eq!(take("t/a").await, Some(last), "the second run left the upload unfinished");
        journal.forget_upload("t/a", Digest::of(b"x")).await.unwrap();
        journal.write_notes().await.unwrap();
        assert_eq!(take("t/a").await, None);
    }

    #[tokio::test]
    async fn upload_idle_for_a_week_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let run = start_run(&journal).await;
        let db = crate::journal::file::connect(journal.path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        record_upload(&db, run, &upload(10), Utc::now() - TimeDelta::days(8)).unwrap();
        end(&journal, run).await;
        assert_eq!(journal.adopt_unfinished_upload(run, "t/a", Digest::of(b"x")).await.unwrap(), None);
        record_upload(&db, run, &UploadRecord { target: "t/b".into(), ..upload(10) }, Utc::now()).unwrap();
        let rows: i64 = db.query_row("SELECT count(*) FROM uploads", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }
}
