//! Handle to the journal, with all requests to it. The thread that serves these requests is in `group.rs`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::carrying::{PROCESS, renumbered};
use super::file::{connect, create, expect_regular, unopened, write_ahead};
use super::group::{self, Answer, Asking, Durability, Job};
use super::open_journal::OpenJournal;
use super::owner::{self, Owner};
use super::queries::{self, OwnedRun, Process};
use super::record::{
    Begun, EvidenceFilter, EvidenceRecord, HistoryFilter, LastEnds, Observation, Outcome, RunEnd, RunId, RunRecord,
    TagRecord, TransferNote, Trigger,
};
use super::{JournalError, arrivals, migrations};
use crate::oci::Digest;

/// Handle to the journal, cheap to clone. When the last handle is dropped, all requests are finished, and the file and
/// the lock of this process are released.
///
/// Every method returns when the result of its request is known. Only [`Journal::record_transfers`] returns a future of
/// the result, to be awaited later. Dropping a future does not cancel its request. Writes that wait at the same time
/// are done in one transaction. Each write succeeds or fails independently of the others, but if the transaction fails,
/// all of them fail.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Row of this process. [`None`] for a reader.
    process: Option<i64>,
    /// [`None`] only while dropping.
    jobs: Option<Asking>,
    thread: Option<JoinHandle<()>>,
    /// Ends of runs that could not be recorded.
    unended: Mutex<HashMap<RunId, (RunEnd, DateTime<Utc>)>>,
    mended: Arc<AtomicU64>,
}

impl Journal {
    /// Opens the journal for reading and writing:
    /// - A missing file is created for its owner alone (mode 0600, a missing folder 0700).
    /// - An older journal is migrated.
    /// - Runs that a dead process left are marked as interrupted.
    ///
    /// Does disk I/O: call it at start-up, not within a task.
    ///
    /// # Errors
    /// [`JournalError`] that names the file.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_at(path, Utc::now())
    }

    /// Does the same as [`Journal::open`]. `now` is recorded as the end of interrupted runs.
    ///
    /// # Errors
    /// The same as those of [`Journal::open`].
    pub fn open_at(path: &Path, now: DateTime<Utc>) -> Result<Self, JournalError> {
        let (named, path) = (path, create(path)?);
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrations::migrate(&mut connection, &path, migrations::MIGRATIONS)?;
        write_ahead(&connection, &path)?;
        let owner = Owner::beside(&path).map_err(|error| unopened(&path, error))?;
        let failed = |error| JournalError::from_sqlite(&path, error);
        let process = queries::register_process(&connection, std::process::id(), owner.name()).map_err(failed)?;
        in_transaction(&mut connection, |db| {
            interrupt_orphaned_runs(db, &path, queries::list_processes_not_known_to_be_gone(db, process)?, now)
        })
        .map_err(failed)?;
        Self::start(named, path, connection, Some((process, owner)))
    }

    /// Opens an existing journal for reading only: for `history`, `evidence` and `status`.
    ///
    /// # Errors
    /// [`JournalError::Missing`] if there is none. A method that writes returns [`JournalError::ReadOnly`].
    pub fn open_existing(path: &Path) -> Result<Self, JournalError> {
        let named = path;
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(unopened(path, error)),
        };
        expect_regular(&path)?;
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        migrations::require_top(&connection, &path)?;
        Self::start(named, path, connection, None)
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Begins a run of `entry`, unless one is in progress in any process that shares this journal. Runs of processes
    /// that have ended are first marked as interrupted, and block nothing.
    ///
    /// # Errors
    /// [`JournalError`]; no run has then begun.
    pub async fn begin_run(&self, entry: &str, trigger: Trigger, now: DateTime<Utc>) -> Result<Begun, JournalError> {
        let process = self.process()?;
        let (entry, path) = (entry.to_owned(), self.inner.path.clone());
        let unended = self.inner.unended.lock().clone();
        let ended: Vec<RunId> = unended.keys().copied().collect();
        let answer = self.write(Durability::Kept, move |db| {
            let process = renumbered(db, PROCESS, process)?;
            unended.iter().try_for_each(|(run, (end, at))| queries::end_run(db, *run, end, *at))?;
            interrupt_orphaned_runs(db, &path, queries::list_processes_with_unfinished_runs(db, process)?, now)?;
            match queries::find_unfinished_run_of(db, &entry)? {
                Some((pid, since)) => Ok(Begun::AlreadyRunning { pid, since }),
                None => queries::insert_run(db, process, &entry, trigger, now).map(Begun::Started),
            }
        });
        let begun = answer.await?;
        let mut unended = self.inner.unended.lock();
        ended.iter().for_each(|run| drop(unended.remove(run)));
        Ok(begun)
    }

    /// Ends a run. Transfers that it left open are closed as interrupted.
    ///
    /// # Errors
    /// [`JournalError`]; the run then counts as in progress until the next run of this process begins, or this process
    /// ends.
    pub async fn end_run(&self, run: RunId, end: RunEnd, now: DateTime<Utc>) -> Result<(), JournalError> {
        let written = end.clone();
        let answer = self.write(Durability::Kept, move |db| queries::end_run(db, run, &written, now)).await;
        if answer.is_err() {
            self.inner.unended.lock().insert(run, (end, now));
        }
        answer
    }

    /// Records the tags that a run saw at a source and a target. All batches of one run and pair have the same `now`
    /// (the beginning of the run): [`Journal::last_selection`] uses this time to determine which tags were seen
    /// together.
    ///
    /// # Errors
    /// [`JournalError`]; none of the batch is then recorded.
    pub async fn observe_tags(
        &self,
        entry: &str,
        source: &str,
        target: &str,
        seen: Vec<Observation>,
        now: DateTime<Utc>,
    ) -> Result<(), JournalError> {
        let (entry, source, target) = (entry.to_owned(), source.to_owned(), target.to_owned());
        self.write(Durability::Hint, move |db| {
            queries::move_observations_before(db, &entry, [&source, &target], now)?;
            seen.iter().try_for_each(|seen| queries::record_observation(db, &entry, [&source, &target], seen, now))
        })
        .await
    }

    /// Returns the tags that the last run of `entry` saw, by source, target and tag.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_selection(&self, entry: &str) -> Result<Vec<TagRecord>, JournalError> {
        let entry = entry.to_owned();
        self.read(move |db| queries::list_tags_last_seen_of(db, &entry)).await
    }

    /// Returns two flags, from the records that the journal still has:
    /// - true if a run of `entry` has seen tags at this source and target,
    /// - true if any run has begun to send a blob to the target, or content has arrived there.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn has_been_at(&self, entry: &str, source: &str, target: &str) -> Result<(bool, bool), JournalError> {
        let (entry, source, target) = (entry.to_owned(), source.to_owned(), target.to_owned());
        self.read(move |db| queries::find_traces_at(db, &entry, &source, &target)).await
    }

    /// Records the states of transfers, in this order. This method returns once the thread has received the states. The
    /// returned future ends when they are written: with the next write, or a moment later. Errors are cut at 2000
    /// characters.
    ///
    /// # Errors
    /// [`JournalError`]. If the answer fails, none of them is recorded.
    pub async fn record_transfers(
        &self,
        run: RunId,
        notes: Vec<TransferNote>,
    ) -> Result<impl Future<Output = Result<(), JournalError>> + Send + use<>, JournalError> {
        self.process()?;
        let work = move |db: &Connection| notes.iter().try_for_each(|note| queries::record_transfer(db, run, note));
        let (job, answer) = Job::write(Durability::InPassing, work);
        self.ask(job).await?;
        let path = self.inner.path.clone();
        Ok(async move { await_answer(&path, answer).await })
    }

    /// Queues a write without a waiting caller. This method returns once the thread has received the write. If the
    /// write fails, its record is lost.
    pub(super) async fn queue_write(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        self.process()?;
        let (job, _) = Job::write(Durability::InPassing, work);
        self.ask(job).await
    }

    /// Writes the records whose write is still delayed. See [`Journal::record_transfers`].
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn write_notes(&self) -> Result<(), JournalError> {
        self.write(Durability::Hint, |_| Ok(())).await
    }

    /// Records the index that is derived from `source` for `platforms`, so that an unchanged tag needs no manifest
    /// request. `platforms` is any text that is the same for the same platforms.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record_derived(&self, source: Digest, platforms: &str, derived: Digest) -> Result<(), JournalError> {
        let platforms = platforms.to_owned();
        self.write(Durability::Hint, move |db| queries::record_derived(db, &source, &platforms, &derived)).await
    }

    /// Returns the digest that [`Journal::record_derived`] recorded.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn find_derived(&self, source: Digest, platforms: &str) -> Result<Option<Digest>, JournalError> {
        let platforms = platforms.to_owned();
        self.read(move |db| queries::find_derived(db, &source, &platforms)).await
    }

    /// Returns runs, the latest first. A run whose process has ended is shown as interrupted, even to a reader.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn history(&self, filter: &HistoryFilter) -> Result<Vec<RunRecord>, JournalError> {
        let (filter, path) = (filter.clone(), self.inner.path.clone());
        self.read(move |db| Ok(show_runs(queries::list_runs(db, &filter)?, &path))).await
    }

    /// Returns the last run of each entry, by name.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_runs(&self) -> Result<Vec<RunRecord>, JournalError> {
        let path = self.inner.path.clone();
        self.read(move |db| Ok(show_runs(queries::list_last_run_of_each_entry(db)?, &path))).await
    }

    /// Returns, for each entry by name, when its runs last succeeded and last failed or took too long.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_ends(&self) -> Result<Vec<LastEnds>, JournalError> {
        self.read(queries::list_last_ends_of_each_entry).await
    }

    /// Returns the last instant for which the schedule of `entry` fired, whatever the run's outcome. It is after `now`
    /// only if the clock was set back and the entry has not fired since.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_scheduled(&self, entry: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, JournalError> {
        let entry = entry.to_owned();
        self.read(move |db| queries::find_last_scheduled_instant_of(db, &entry, now)).await
    }

    /// Returns evidence, the latest first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn evidence(&self, filter: &EvidenceFilter) -> Result<Vec<EvidenceRecord>, JournalError> {
        let filter = filter.clone();
        self.read(move |db| arrivals::list_evidence(db, &filter)).await
    }

    /// Writes a row to the disk, for the readiness probe.
    ///
    /// # Errors
    /// Every error that would keep a run from being recorded.
    pub async fn check_writable(&self) -> Result<(), JournalError> {
        let process = self.process()?;
        self.write(Durability::Kept, move |db| queries::count_a_probe(db, renumbered(db, PROCESS, process)?)).await
    }

    /// Returns how often the journal was found removed or replaced while it was open, and was repaired.
    #[must_use]
    pub fn times_mended(&self) -> u64 {
        self.inner.mended.load(Ordering::Relaxed)
    }

    /// Returns the size in bytes of the file and of its write-ahead log.
    ///
    /// # Errors
    /// [`JournalError`] if the file cannot be inspected.
    pub async fn size(&self) -> Result<u64, JournalError> {
        let path = &self.inner.path;
        let file = tokio::fs::metadata(path).await.map_err(|error| unopened(path, error))?.len();
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        let log = tokio::fs::metadata(log).await.map_or(0, |log| log.len());
        Ok(file + log)
    }

    pub(super) fn start(
        named: &Path,
        path: PathBuf,
        connection: Connection,
        own: Option<(i64, Owner)>,
    ) -> Result<Self, JournalError> {
        let (jobs, asked) = group::queues();
        let process = own.as_ref().map(|(process, _)| *process);
        let mended = Arc::new(AtomicU64::new(0));
        let failed = |source| JournalError::Open { path: path.clone(), source };
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let mut held = OpenJournal::new(connection, named, path.clone(), own, mended.clone()).map_err(failed)?;
        let work = move || {
            group::serve(&mut held, asked, &clock);
            held.close();
        };
        let thread = thread::Builder::new().name("journal".into()).spawn(work).map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                process,
                jobs: Some(jobs),
                thread: Some(thread),
                unended: Mutex::default(),
                mended,
            }),
        })
    }

    pub(super) fn process(&self) -> Result<i64, JournalError> {
        self.inner.process.ok_or_else(|| JournalError::ReadOnly { path: self.inner.path.clone() })
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        promise: Durability,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.process()?;
        let (job, answer) = Job::write(promise, work);
        self.ask(job).await?;
        await_answer(&self.inner.path, answer).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (job, answer) = Job::read(work);
        self.ask(job).await?;
        await_answer(&self.inner.path, answer).await
    }

    async fn ask(&self, job: Job) -> Result<(), JournalError> {
        let closed = || JournalError::Closed { path: self.inner.path.clone() };
        let jobs = self.inner.jobs.as_ref().ok_or_else(closed)?;
        if jobs.put(job).await { Ok(()) } else { Err(closed()) }
    }
}

async fn await_answer<T>(path: &Path, answer: Answer<T>) -> Result<T, JournalError> {
    let answer = answer.await.map_err(|_| JournalError::Closed { path: path.to_owned() })?;
    answer.map_err(|error| JournalError::from_sqlite(path, error))
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, the callers have received a `Closed` error.
            let _ = thread.join();
        }
    }
}

/// Runs a transaction that takes the write lock at once, so that it never has to be restarted.
fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answer = work(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

/// Ends the runs of those `processes` that have ended.
pub(super) fn interrupt_orphaned_runs(
    db: &Connection,
    journal: &Path,
    processes: Vec<Process>,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    for process in processes {
        if !owner::lives(journal, &process.lock) {
            queries::interrupt_everything_of_process(db, process.id, now)?;
            owner::bury(journal, &process.lock);
        }
    }
    Ok(())
}

/// Returns the runs as a reader shows them: it cannot end the runs of dead processes, but it shows them as
/// interrupted.
fn show_runs(runs: Vec<OwnedRun>, journal: &Path) -> Vec<RunRecord> {
    let show = |OwnedRun { mut run, lock }: OwnedRun| {
        if run.ended.is_none() && !owner::lives(journal, &lock) {
            run.outcome = Some(Outcome::Interrupted);
            run.error = Some(queries::ENDED_SILENTLY.to_owned());
        }
        run
    };
    runs.into_iter().map(show).collect()
}
