//! Handle to the journal. Its methods queue reads and writes, and the thread in `group.rs` executes these reads and
//! writes.

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
use super::file::{connect, create, enable_write_ahead_log, expect_regular, unopened};
use super::group::{self, Answer, Durability, Job, JobSender};
use super::open_journal::OpenJournal;
use super::process_lock::{self, ProcessLock};
use super::queries::{self, OwnedRun, Process};
use super::record::{
    EvidenceFilter, EvidenceRecord, HistoryFilter, LastEnds, Observation, Outcome, RunEnd, RunId, RunRecord, RunStart,
    TagRecord, TransferUpdate, Trigger,
};
use super::{JournalError, arrivals, migrations};
use crate::oci::Digest;

/// Handle to the journal, cheap to clone. The drop of the last handle waits until the journal's thread has executed all
/// queued reads and writes. Then the drop closes the file and releases the lock of this process.
///
/// Most methods return after the thread has executed the read or write. [`Journal::record_transfers`] and
/// [`Journal::forget_upload`] return once the write is queued. If a caller drops a future, the thread still executes
/// the queued read or write.
///
/// The thread executes all waiting writes in one transaction. If one write fails, the other writes of the transaction
/// still succeed. If the transaction fails, all its writes fail.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Row number of this process in the table `processes`. [`None`] if the journal is open for reading only.
    process: Option<i64>,
    /// Queues of the journal's thread. [`None`] only during the drop of this value.
    jobs: Option<JobSender>,
    thread: Option<JoinHandle<()>>,
    /// Ends of runs that [`Journal::end_run`] could not record. The next [`Journal::begin_run`] records these ends.
    unrecorded_ends: Mutex<HashMap<RunId, (RunEnd, DateTime<Utc>)>>,
    /// Number of repairs of the journal's files.
    repairs: Arc<AtomicU64>,
}

impl Journal {
    /// Opens the journal for reading and writing. First, this function prepares the journal:
    /// - If the file is missing, creates the file with mode 0600. If the folder is missing, creates the folder with
    ///   mode 0700.
    /// - If the journal has an older version, migrates the journal.
    /// - If a process ended during its runs, marks these runs as interrupted.
    ///
    /// This function blocks on disk I/O, so asynchronous tasks must not call this function.
    ///
    /// # Errors
    /// [`JournalError`], with the path of the file.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_at(path, Utc::now())
    }

    /// Does the same as [`Journal::open`]. Records `now` as the end of interrupted runs.
    ///
    /// # Errors
    /// The same as those of [`Journal::open`].
    pub fn open_at(path: &Path, now: DateTime<Utc>) -> Result<Self, JournalError> {
        let (configured, path) = (path, create(path)?);
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrations::migrate(&mut connection, &path, migrations::MIGRATIONS)?;
        enable_write_ahead_log(&connection, &path)?;
        let lock = ProcessLock::beside(&path).map_err(|error| unopened(&path, error))?;
        let failed = |error| JournalError::from_sqlite(&path, error);
        let process = queries::register_process(&connection, std::process::id(), lock.name()).map_err(failed)?;
        in_transaction(&mut connection, |db| {
            interrupt_orphaned_runs(db, &path, queries::list_processes_not_marked_as_ended(db, process)?, now)
        })
        .map_err(failed)?;
        Self::start(configured, path, connection, Some((process, lock)))
    }

    /// Opens an existing journal for reading only.
    ///
    /// # Errors
    /// [`JournalError::Missing`] if the file does not exist. Methods that write return [`JournalError::ReadOnly`].
    pub fn open_existing(path: &Path) -> Result<Self, JournalError> {
        let configured = path;
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(unopened(path, error)),
        };
        expect_regular(&path)?;
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        migrations::require_latest(&connection, &path)?;
        Self::start(configured, path, connection, None)
    }

    /// Returns the path of the journal's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Starts a run of `entry`. First marks the unfinished runs of ended processes as interrupted. If a run of `entry`
    /// is still in progress, in any process, returns [`RunStart::AlreadyRunning`].
    ///
    /// # Errors
    /// [`JournalError`]. In this case, no run was started.
    pub async fn begin_run(&self, entry: &str, trigger: Trigger, now: DateTime<Utc>) -> Result<RunStart, JournalError> {
        let process = self.process()?;
        let (entry, path) = (entry.to_owned(), self.inner.path.clone());
        let unrecorded_ends = self.inner.unrecorded_ends.lock().clone();
        let recorded: Vec<RunId> = unrecorded_ends.keys().copied().collect();
        let answer = self.write(Durability::Synced, move |db| {
            let process = renumbered(db, PROCESS, process)?;
            unrecorded_ends.iter().try_for_each(|(run, (end, at))| queries::end_run(db, *run, end, *at))?;
            interrupt_orphaned_runs(db, &path, queries::list_processes_with_unfinished_runs(db, process)?, now)?;
            match queries::find_unfinished_run_of(db, &entry)? {
                Some((pid, since)) => Ok(RunStart::AlreadyRunning { pid, since }),
                None => queries::insert_run(db, process, &entry, trigger, now).map(RunStart::Started),
            }
        });
        let start = answer.await?;
        let mut unrecorded_ends = self.inner.unrecorded_ends.lock();
        recorded.iter().for_each(|run| drop(unrecorded_ends.remove(run)));
        Ok(start)
    }

    /// Records the end of a run, and marks the unfinished transfers of the run as interrupted.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the run counts as in progress until this process starts another run or ends.
    pub async fn end_run(&self, run: RunId, end: RunEnd, now: DateTime<Utc>) -> Result<(), JournalError> {
        let written = end.clone();
        let answer = self.write(Durability::Synced, move |db| queries::end_run(db, run, &written, now)).await;
        if answer.is_err() {
            self.inner.unrecorded_ends.lock().insert(run, (end, now));
        }
        answer
    }

    /// Records tags that a run found at a source and a target. A run can call this method several times. Each call must
    /// pass the start of the run as `now`, because [`Journal::last_selection`] selects the tags by this time.
    ///
    /// # Errors
    /// [`JournalError`]. In this case, the call records nothing.
    pub async fn observe_tags(
        &self,
        entry: &str,
        source: &str,
        target: &str,
        seen: Vec<Observation>,
        now: DateTime<Utc>,
    ) -> Result<(), JournalError> {
        let (entry, source, target) = (entry.to_owned(), source.to_owned(), target.to_owned());
        self.write(Durability::Unsynced, move |db| {
            queries::move_observations_before(db, &entry, [&source, &target], now)?;
            seen.iter().try_for_each(|seen| queries::record_observation(db, &entry, [&source, &target], seen, now))
        })
        .await
    }

    /// Returns the tags that the last run of `entry` found at each source and target, ordered by source, target and
    /// tag.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_selection(&self, entry: &str) -> Result<Vec<TagRecord>, JournalError> {
        let entry = entry.to_owned();
        self.read(move |db| queries::list_tags_last_seen_of(db, &entry)).await
    }

    /// Searches the records that pruning has not deleted, and returns two flags:
    /// - The first flag is true if a run of `entry` has recorded tags of this source and target.
    /// - The second flag is true if any run has started to send a blob to `target`, or has written a tag or digest at
    ///   `target`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn find_earlier_work(
        &self,
        entry: &str,
        source: &str,
        target: &str,
    ) -> Result<(bool, bool), JournalError> {
        let (entry, source, target) = (entry.to_owned(), source.to_owned(), target.to_owned());
        self.read(move |db| queries::find_traces_at(db, &entry, &source, &target)).await
    }

    /// Records the states of transfers, in the given order. This method returns once the write is queued. The returned
    /// future completes when the write is done. The journal's thread does the write together with the next write, but
    /// at the latest after 20 ms. Error texts are truncated to 2000 characters.
    ///
    /// # Errors
    /// [`JournalError`]. If the returned future fails, none of the states is recorded.
    pub async fn record_transfers(
        &self,
        run: RunId,
        notes: Vec<TransferUpdate>,
    ) -> Result<impl Future<Output = Result<(), JournalError>> + Send + use<>, JournalError> {
        self.process()?;
        let work = move |db: &Connection| notes.iter().try_for_each(|note| queries::record_transfer(db, run, note));
        let (job, answer) = Job::write(Durability::Delayed, work);
        self.send(job).await?;
        let path = self.inner.path.clone();
        Ok(async move { await_answer(&path, answer).await })
    }

    /// Queues a write, and returns before the write is done. If the write fails later, the record is lost.
    pub(super) async fn queue_write(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        self.process()?;
        let (job, _) = Job::write(Durability::Delayed, work);
        self.send(job).await
    }

    /// Waits until all queued writes are done, including the delayed writes of [`Journal::record_transfers`].
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn write_notes(&self) -> Result<(), JournalError> {
        self.write(Durability::Unsynced, |_| Ok(())).await
    }

    /// Records the digest of a derived index: `derived` contains only the platforms `platforms` of the index `source`.
    /// With this record, a later run checks an unchanged tag without a request for its manifest. Callers must pass the
    /// same text for the same platforms.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record_derived(&self, source: Digest, platforms: &str, derived: Digest) -> Result<(), JournalError> {
        let platforms = platforms.to_owned();
        self.write(Durability::Unsynced, move |db| queries::record_derived(db, &source, &platforms, &derived)).await
    }

    /// Returns the digest that [`Journal::record_derived`] recorded for `source` and `platforms`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn find_derived(&self, source: Digest, platforms: &str) -> Result<Option<Digest>, JournalError> {
        let platforms = platforms.to_owned();
        self.read(move |db| queries::find_derived(db, &source, &platforms)).await
    }

    /// Returns the runs that match `filter`, the latest first. If the end of a run is not recorded but its process has
    /// ended, the outcome of the run is `interrupted`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn history(&self, filter: &HistoryFilter) -> Result<Vec<RunRecord>, JournalError> {
        let (filter, path) = (filter.clone(), self.inner.path.clone());
        self.read(move |db| Ok(show_runs(queries::list_runs(db, &filter)?, &path))).await
    }

    /// Returns the names of all entries with a run or with evidence, in alphabetical order.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn entry_names(&self) -> Result<Vec<String>, JournalError> {
        self.read(queries::list_entry_names).await
    }

    /// Returns the last run of each entry, ordered by the name of the entry.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_runs(&self) -> Result<Vec<RunRecord>, JournalError> {
        let path = self.inner.path.clone();
        self.read(move |db| Ok(show_runs(queries::list_last_run_of_each_entry(db)?, &path))).await
    }

    /// Returns the time of the last success and of the last failure of each entry, ordered by the name of the entry.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_ends(&self) -> Result<Vec<LastEnds>, JournalError> {
        self.read(queries::list_last_ends_of_each_entry).await
    }

    /// Returns the time at which the last scheduled run of `entry` was due. The outcome of the run does not matter. A
    /// returned time after `now` shows that the clock was set back, and that `entry` has had no scheduled run since the
    /// clock was set back.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_scheduled(&self, entry: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, JournalError> {
        let entry = entry.to_owned();
        self.read(move |db| queries::find_last_scheduled_instant_of(db, &entry, now)).await
    }

    /// Returns the evidence that matches `filter`, the latest first.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn evidence(&self, filter: &EvidenceFilter) -> Result<Vec<EvidenceRecord>, JournalError> {
        let filter = filter.clone();
        self.read(move |db| arrivals::list_evidence(db, &filter)).await
    }

    /// Checks that the journal is writable: writes a row, and waits until the row is on the disk. The readiness probe
    /// calls this method.
    ///
    /// # Errors
    /// [`JournalError`] if the journal cannot record a run.
    pub async fn check_writable(&self) -> Result<(), JournalError> {
        let process = self.process()?;
        self.write(Durability::Synced, move |db| queries::count_a_probe(db, renumbered(db, PROCESS, process)?)).await
    }

    /// Returns the number of repairs of the journal's files since this journal was opened. Before a write, transship
    /// repairs the files if a file was removed or replaced.
    #[must_use]
    pub fn repair_count(&self) -> u64 {
        self.inner.repairs.load(Ordering::Relaxed)
    }

    /// Returns the size of the journal's file plus its write-ahead log, in bytes.
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
        configured: &Path,
        path: PathBuf,
        connection: Connection,
        process_and_lock: Option<(i64, ProcessLock)>,
    ) -> Result<Self, JournalError> {
        let (jobs, receiver) = group::queues();
        let process = process_and_lock.as_ref().map(|(process, _)| *process);
        let repairs = Arc::new(AtomicU64::new(0));
        let failed = |source| JournalError::Open { path: path.clone(), source };
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let mut journal = OpenJournal::new(connection, configured, path.clone(), process_and_lock, repairs.clone())
            .map_err(failed)?;
        let work = move || {
            group::serve(&mut journal, receiver, &clock);
            journal.close();
        };
        let thread = thread::Builder::new().name("journal".into()).spawn(work).map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                process,
                jobs: Some(jobs),
                thread: Some(thread),
                unrecorded_ends: Mutex::default(),
                repairs,
            }),
        })
    }

    pub(super) fn process(&self) -> Result<i64, JournalError> {
        self.inner.process.ok_or_else(|| JournalError::ReadOnly { path: self.inner.path.clone() })
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.process()?;
        let (job, answer) = Job::write(durability, work);
        self.send(job).await?;
        await_answer(&self.inner.path, answer).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (job, answer) = Job::read(work);
        self.send(job).await?;
        await_answer(&self.inner.path, answer).await
    }

    async fn send(&self, job: Job) -> Result<(), JournalError> {
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

/// Runs `work` in a transaction that takes the write lock at its beginning.
fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answer = work(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

/// Marks the unfinished runs of each ended process of `processes` as interrupted.
pub(super) fn interrupt_orphaned_runs(
    db: &Connection,
    journal: &Path,
    processes: Vec<Process>,
    now: DateTime<Utc>,
) -> rusqlite::Result<()> {
    for process in processes {
        if !process_lock::is_alive(journal, &process.lock) {
            queries::interrupt_everything_of_process(db, process.id, now)?;
            process_lock::remove(journal, &process.lock);
        }
    }
    Ok(())
}

/// Returns the runs. If a run is in progress and its process has ended, its outcome becomes `interrupted`.
fn show_runs(runs: Vec<OwnedRun>, journal: &Path) -> Vec<RunRecord> {
    let show = |OwnedRun { mut run, lock }: OwnedRun| {
        if run.ended.is_none() && !process_lock::is_alive(journal, &lock) {
            run.outcome = Some(Outcome::Interrupted);
            run.error = Some(queries::ENDED_WITHOUT_RECORD.to_owned());
        }
        run
    };
    runs.into_iter().map(show).collect()
}
