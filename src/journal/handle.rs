//! The handle to the journal: everything that can be asked of it. The thread that does it is in `group.rs`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::carrying::{PROCESS, renumbered};
use super::file::{connect, create, expect_regular, unopened, write_ahead};
use super::group::{self, Answer, Asking, Job, Promise};
use super::held::Held;
use super::owner::{self, Owner};
use super::queries::{self, OwnedRun, Process};
use super::record::{
    Begun, EvidenceFilter, EvidenceRecord, HistoryFilter, LastEnds, Observation, Outcome, RunEnd, RunId, RunRecord,
    TagRecord, TransferNote, Trigger,
};
use super::{JournalError, arrivals, schema};
use crate::oci::Digest;

/// A handle to the journal, cheap to clone. When the last one is dropped, what was asked for is finished, and the file
/// and the lock of this process are let go.
///
/// Every method ends when its answer is there; only [`Journal::note_transfers`] gives the answer to be awaited later.
/// Dropping a future takes nothing back: what was asked for is done. Writes that wait together are one transaction, in
/// which each succeeds or fails for itself; should the transaction fail, each of them does.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// This process's row; [`None`] for a reader.
    process: Option<i64>,
    /// [`None`] only while dropping.
    jobs: Option<Asking>,
    thread: Option<JoinHandle<()>>,
    /// Ends of runs that could not be recorded.
    unended: Mutex<HashMap<RunId, (RunEnd, DateTime<Utc>)>>,
    mended: Arc<AtomicU64>,
}

impl Journal {
    /// Opens the journal for reading and writing. A missing one is created for its owner alone (mode 0600, a missing
    /// folder 0700), an older one is brought up to date, and runs that a dead process left behind are marked as
    /// interrupted. Does disk I/O: call it at start-up, not within a task.
    ///
    /// # Errors
    /// [`JournalError`] that names the file.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_at(path, Utc::now())
    }

    /// [`Journal::open`] with the instant at which interrupted runs are taken to have ended.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_at(path: &Path, now: DateTime<Utc>) -> Result<Self, JournalError> {
        let (named, path) = (path, create(path)?);
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::climb(&mut connection, &path, schema::LADDER)?;
        write_ahead(&connection, &path)?;
        let owner = Owner::beside(&path).map_err(|error| unopened(&path, error))?;
        let failed = |error| JournalError::of(&path, error);
        let process = queries::register_process(&connection, std::process::id(), owner.name()).map_err(failed)?;
        in_transaction(&mut connection, |db| {
            bury_the_dead(db, &path, queries::list_processes_not_known_to_be_gone(db, process)?, now)
        })
        .map_err(failed)?;
        Self::start(named, path, connection, Some((process, owner)))
    }

    /// Opens a journal that exists, for reading alone: for `history`, `evidence` and `status`.
    ///
    /// # Errors
    /// [`JournalError::Missing`] where there is none; a method that writes answers [`JournalError::ReadOnly`].
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
        schema::require_top(&connection, &path)?;
        Self::start(named, path, connection, None)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Begins a run of `entry`, unless one is under way in any process that shares this journal. Runs of processes
    /// that are gone are marked as interrupted first and hold nothing.
    ///
    /// # Errors
    /// [`JournalError`], with nothing begun.
    pub async fn begin_run(&self, entry: &str, trigger: Trigger, now: DateTime<Utc>) -> Result<Begun, JournalError> {
        let process = self.process()?;
        let (entry, path) = (entry.to_owned(), self.inner.path.clone());
        let unended = self.inner.unended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ended: Vec<RunId> = unended.keys().copied().collect();
        let answer = self.write(Promise::Kept, move |db| {
            let process = renumbered(db, PROCESS, process)?;
            unended.iter().try_for_each(|(run, (end, at))| queries::end_run(db, *run, end, *at))?;
            bury_the_dead(db, &path, queries::list_processes_with_unfinished_runs(db, process)?, now)?;
            match queries::find_unfinished_run_of(db, &entry)? {
                Some((pid, since)) => Ok(Begun::AlreadyRunning { pid, since }),
                None => queries::insert_run(db, process, &entry, trigger, now).map(Begun::Started),
            }
        });
        let begun = answer.await?;
        let mut unended = self.inner.unended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().for_each(|run| drop(unended.remove(run)));
        Ok(begun)
    }

    /// Ends a run. Transfers that it left open are closed as interrupted.
    ///
    /// # Errors
    /// [`JournalError`]; the run then counts as under way until the next run of this process begins, or this process ends.
    pub async fn end_run(&self, run: RunId, end: RunEnd, now: DateTime<Utc>) -> Result<(), JournalError> {
        let written = end.clone();
        let answer = self.write(Promise::Kept, move |db| queries::end_run(db, run, &written, now)).await;
        if answer.is_err() {
            self.inner.unended.lock().unwrap_or_else(PoisonError::into_inner).insert(run, (end, now));
        }
        answer
    }

    /// Notes which tags a run saw between two places. All batches of one run and pair bear the same `now` (the run's
    /// beginning): [`Journal::last_selection`] tells by it which tags were seen together.
    ///
    /// # Errors
    /// [`JournalError`], with none of the batch noted.
    pub async fn observe_tags(
        &self,
        entry: &str,
        source: &str,
        target: &str,
        seen: Vec<Observation>,
        now: DateTime<Utc>,
    ) -> Result<(), JournalError> {
        let (entry, source, target) = (entry.to_owned(), source.to_owned(), target.to_owned());
        self.write(Promise::Hint, move |db| {
            queries::move_observations_before(db, &entry, [&source, &target], now)?;
            seen.iter().try_for_each(|seen| queries::note_observation(db, &entry, [&source, &target], seen, now))
        })
        .await
    }

    /// The tags that the last run of `entry` saw, by source, target and tag.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_selection(&self, entry: &str) -> Result<Vec<TagRecord>, JournalError> {
        let entry = entry.to_owned();
        self.read(move |db| queries::list_tags_last_seen_of(db, &entry)).await
    }

    /// Whether a run of `entry` has seen tags between these places, and whether any run has begun to send a blob to the
    /// target, as far as that is still known, or brought something there.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn has_been_at(&self, entry: &str, source: &str, target: &str) -> Result<(bool, bool), JournalError> {
        let (entry, source, target) = (entry.to_owned(), source.to_owned(), target.to_owned());
        self.read(move |db| queries::find_traces_at(db, &entry, &source, &target)).await
    }

    /// Takes notes of what became of blobs on their way, in this order, and is done when the thread has them. What it
    /// answers ends when they are written: with whatever is written next, or a moment later. Errors are cut at 2000
    /// characters.
    ///
    /// # Errors
    /// [`JournalError`]; from the answer, none of them is noted.
    pub async fn note_transfers(
        &self,
        run: RunId,
        notes: Vec<TransferNote>,
    ) -> Result<impl Future<Output = Result<(), JournalError>> + Send + use<>, JournalError> {
        self.process()?;
        let work = move |db: &Connection| notes.iter().try_for_each(|note| queries::note_transfer(db, run, note));
        let (job, answer) = Job::write(Promise::InPassing, work);
        self.ask(job).await?;
        let path = self.inner.path.clone();
        Ok(async move { answered(&path, answer).await })
    }

    /// Has something written in passing: it is done when the thread has it. What cannot be written is lost.
    pub(super) async fn pass(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        self.process()?;
        let (job, _) = Job::write(Promise::InPassing, work);
        self.ask(job).await
    }

    /// Writes the notes that still wait for another write.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn write_notes(&self) -> Result<(), JournalError> {
        self.write(Promise::Hint, |_| Ok(())).await
    }

    /// Notes which index `source` becomes when it is cut down to `platforms`, so that an unchanged tag costs no
    /// manifest. `platforms` is any text that is the same for the same platforms.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn record_derived(&self, source: Digest, platforms: &str, derived: Digest) -> Result<(), JournalError> {
        let platforms = platforms.to_owned();
        self.write(Promise::Hint, move |db| queries::note_derived(db, &source, &platforms, &derived)).await
    }

    /// What [`Journal::record_derived`] noted.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn find_derived(&self, source: Digest, platforms: &str) -> Result<Option<Digest>, JournalError> {
        let platforms = platforms.to_owned();
        self.read(move |db| queries::find_derived(db, &source, &platforms)).await
    }

    /// Runs, the latest first. One whose process is gone is shown as interrupted, even to a reader.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn history(&self, filter: &HistoryFilter) -> Result<Vec<RunRecord>, JournalError> {
        let (filter, path) = (filter.clone(), self.inner.path.clone());
        self.read(move |db| Ok(told(queries::list_runs(db, &filter)?, &path))).await
    }

    /// The last run of each entry, by name.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_runs(&self) -> Result<Vec<RunRecord>, JournalError> {
        let path = self.inner.path.clone();
        self.read(move |db| Ok(told(queries::list_last_run_of_each_entry(db)?, &path))).await
    }

    /// When runs of each entry last succeeded and last failed or took too long, by name.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_ends(&self) -> Result<Vec<LastEnds>, JournalError> {
        self.read(queries::list_last_ends_of_each_entry).await
    }

    /// The last instant for which the schedule of `entry` fired, whatever became of the run. It is after `now` only where the clock
    /// was set back and the entry did not fire since.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn last_scheduled(&self, entry: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, JournalError> {
        let entry = entry.to_owned();
        self.read(move |db| queries::find_last_scheduled_instant_of(db, &entry, now)).await
    }

    /// Evidence, the latest first.
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
    /// Whatever would keep a run from being recorded.
    pub async fn check_writable(&self) -> Result<(), JournalError> {
        let process = self.process()?;
        self.write(Promise::Kept, move |db| queries::count_a_probe(db, renumbered(db, PROCESS, process)?)).await
    }

    /// How often the journal was found removed or replaced while it was open, and was mended.
    #[must_use]
    pub fn times_mended(&self) -> u64 {
        self.inner.mended.load(Ordering::Relaxed)
    }

    /// The size in bytes of the file and of its write-ahead log.
    ///
    /// # Errors
    /// [`JournalError`] where the file cannot be looked at.
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
        let mut held = Held::new(connection, named, path.clone(), own, mended.clone()).map_err(failed)?;
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
        promise: Promise,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.process()?;
        let (job, answer) = Job::write(promise, work);
        self.ask(job).await?;
        answered(&self.inner.path, answer).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (job, answer) = Job::read(work);
        self.ask(job).await?;
        answered(&self.inner.path, answer).await
    }

    async fn ask(&self, job: Job) -> Result<(), JournalError> {
        let closed = || JournalError::Closed { path: self.inner.path.clone() };
        let jobs = self.inner.jobs.as_ref().ok_or_else(closed)?;
        if jobs.put(job).await { Ok(()) } else { Err(closed()) }
    }
}

async fn answered<T>(path: &Path, answer: Answer<T>) -> Result<T, JournalError> {
    let answer = answer.await.map_err(|_| JournalError::Closed { path: path.to_owned() })?;
    answer.map_err(|error| JournalError::of(path, error))
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was a `Closed` to whoever asked.
            let _ = thread.join();
        }
    }
}

/// A transaction that takes the right to write at once, so that it never has to be begun again.
fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answer = work(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

/// Ends the runs of those `processes` that are gone.
pub(super) fn bury_the_dead(
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

/// A reader cannot bury the dead, but it need not take them for alive.
fn told(runs: Vec<OwnedRun>, journal: &Path) -> Vec<RunRecord> {
    let tell = |OwnedRun { mut run, lock }: OwnedRun| {
        if run.ended.is_none() && !owner::lives(journal, &lock) {
            run.outcome = Some(Outcome::Interrupted);
            run.error = Some(queries::ENDED_SILENTLY.to_owned());
        }
        run
    };
    runs.into_iter().map(tell).collect()
}
