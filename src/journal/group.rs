//! Thread that owns the SQLite connection. The thread takes all waiting jobs as one group, and executes all writes of a
//! group in one transaction.
//!
//! A transaction is far more expensive than a row: a transaction takes locks, writes frames of the log, and may wait
//! for the disk.

use std::time::Duration;

use rusqlite::{Connection, Error, Result};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::open_journal::OpenJournal;

/// Capacity of each queue, in jobs. If a queue is full, the callers wait. A group contains at most `WAITING + 1`
/// delayed writes and at most `WAITING` other jobs.
pub(super) const WAITING: usize = 256;

/// Maximum delay of a write without a waiting caller. During the delay, more writes can join the transaction.
pub(super) const MAX_DELAY: Duration = Duration::from_millis(20);

/// Protection of a write against a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The caller receives the answer after the write is on the disk. A power failure does not delete the record.
    Synced,
    /// A power failure can delete the record. Callers use this value for hints, and for records that a later run can
    /// determine again.
    Unsynced,
    /// The same as `Unsynced`, but no caller waits. The thread does the write together with the next write, or after
    /// [`MAX_DELAY`].
    Delayed,
}

/// Job for the thread of the journal: a read or a write, with the work to do.
pub(super) struct Job {
    kind: JobKind,
    work: Box<dyn Work>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum JobKind {
    Read,
    Write(Durability),
}

/// Future of the answer to a job.
pub(super) type Answer<T> = oneshot::Receiver<Result<T>>;

impl Job {
    /// Creates a read job. The read sees every write that was queued before the read.
    pub(super) fn read<T: Send + 'static>(
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        Self::new(JobKind::Read, work)
    }

    /// Creates a write job. If a part of the write fails, nothing is written. The answer is sent once the write has the
    /// given durability.
    pub(super) fn write<T: Send + 'static>(
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        Self::new(JobKind::Write(durability), work)
    }

    fn new<T: Send + 'static>(
        kind: JobKind,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(TypedJob { work: Some(work), outcome: None, answer });
        (Self { kind, work }, answered)
    }
}

/// Work of a job, and its answer. First the thread does the work of all jobs of a group. Then the thread commits the
/// group, and sends the answers.
trait Work: Send {
    /// Does the work. A second call does nothing. The returned error is a copy, because the answer keeps the original
    /// error.
    fn work(&mut self, db: &Connection) -> Result<()>;

    /// Sends the result of the work to the caller. If the work succeeded and the group failed, sends the error of the
    /// group.
    fn answer(self: Box<Self>, group: Result<()>);
}

struct TypedJob<T, W> {
    work: Option<W>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T: Send, W: FnOnce(&Connection) -> Result<T> + Send> Work for TypedJob<T, W> {
    fn work(&mut self, db: &Connection) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match self.outcome.insert(work(db)) {
            Ok(_) => Ok(()),
            Err(error) => Err(copy(error)),
        }
    }

    fn answer(self: Box<Self>, group: Result<()>) {
        let answer = match (self.outcome, group) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(error),
            (Some(Ok(found)), Ok(())) => Ok(found),
            // The work was not done, and the group did not fail. The `return` drops the sender, so the caller receives
            // `JournalError::Closed`.
            (None, Ok(())) => return,
        };
        // If the caller has dropped its future, nobody receives the answer.
        let _ = self.answer.send(answer);
    }
}

/// Sending side of the two queues of the thread.
#[derive(Debug)]
pub(super) struct JobSender {
    /// Queue of writes without a waiting caller. This field must be declared before `awaited`, because Rust drops
    /// fields in the order of their declaration. So if the thread finds the queue `awaited` closed, this queue is
    /// closed too.
    delayed: mpsc::Sender<Job>,
    /// Queue of jobs whose callers wait.
    awaited: mpsc::Sender<Job>,
}

/// Receiving side of the two queues of the thread.
pub(super) struct JobReceiver {
    delayed: mpsc::Receiver<Job>,
    awaited: mpsc::Receiver<Job>,
}

/// Creates the two queues. The separate queue for writes without a waiting caller saves wake-ups of the thread.
pub(super) fn queues() -> (JobSender, JobReceiver) {
    let (delayed_sender, delayed) = mpsc::channel(WAITING);
    let (awaited_sender, awaited) = mpsc::channel(WAITING);
    (JobSender { delayed: delayed_sender, awaited: awaited_sender }, JobReceiver { delayed, awaited })
}

impl JobSender {
    /// Puts a job into its queue. Returns false if the thread has ended.
    pub(super) async fn put(&self, job: Job) -> bool {
        let queue = if job.kind == JobKind::Write(Durability::Delayed) { &self.delayed } else { &self.awaited };
        queue.send(job).await.is_ok()
    }
}

/// Executes the jobs, group by group, until the last handle is dropped. `clock` is a runtime that measures timeouts.
pub(super) fn serve(journal: &mut OpenJournal, mut jobs: JobReceiver, clock: &Runtime) {
    let (mut group, mut synced) = (Vec::new(), None);
    while clock.block_on(jobs.gather(&mut group)) {
        let (writes, reads): (Vec<Job>, Vec<Job>) = group.drain(..).partition(|job: &Job| job.kind != JobKind::Read);
        if writes.is_empty() {
            journal.reopen_if_replaced();
        } else {
            match journal.repair_files() {
                Ok(is_new) => {
                    synced = synced.filter(|_| !is_new);
                    write(&journal.connection, writes, &mut synced);
                }
                Err(error) => writes.into_iter().for_each(|job| job.work.answer(Err(copy(&error)))),
            }
        }
        let connection = &journal.connection;
        // Reads are done after the writes. So each read sees the writes that were queued before the read.
        for mut job in reads {
            // The answer of the job contains the error.
            let _ = job.work.work(connection);
            job.work.answer(Ok(()));
        }
    }
}

impl JobReceiver {
    /// Waits for a job, and moves all waiting jobs to `group`. A delayed write is placed before every awaited job that
    /// was queued after the write. Returns false once the last handle is dropped and no job remains.
    pub(super) async fn gather(&mut self, group: &mut Vec<Job>) -> bool {
        let mut awaited = Vec::new();
        tokio::select! {
            biased;
            _ = self.awaited.recv_many(&mut awaited, WAITING) => {}
            Some(job) = self.delayed.recv() => {
                group.push(job);
                // After the timeout, the delayed writes are done even if no awaited job was queued.
                let _ = tokio::time::timeout(MAX_DELAY, self.awaited.recv_many(&mut awaited, WAITING)).await;
            }
        }
        // The limit is the capacity of the queue plus one. With this limit, the group contains every delayed write that
        // was queued before an awaited job of the group.
        while group.len() <= WAITING
            && let Ok(job) = self.delayed.try_recv()
        {
            group.push(job);
        }
        group.append(&mut awaited);
        !group.is_empty()
    }
}

/// Writes the jobs in one transaction, and then sends the answers. If one job is [`Durability::Synced`], the commit
/// waits for the disk. `synced` is true if the commits of the connection wait for the disk, and `None` if unknown.
fn write(db: &Connection, mut jobs: Vec<Job>, synced: &mut Option<bool>) {
    if jobs.is_empty() {
        return;
    }
    let sync = jobs.iter().any(|job| job.kind == JobKind::Write(Durability::Synced));
    let written = set_durability(db, sync, synced).and_then(|()| commit(db, &mut jobs));
    for job in jobs {
        job.work.answer(written.as_ref().map(|_| ()).map_err(copy));
    }
}

/// Sets the durability of the next commit: if `sync` is true, the commit waits for the disk. Does nothing if the
/// connection already has this configuration.
fn set_durability(db: &Connection, sync: bool, synced: &mut Option<bool>) -> Result<()> {
    if *synced != Some(sync) {
        *synced = None;
        db.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
        *synced = Some(sync);
    }
    Ok(())
}

fn commit(db: &Connection, jobs: &mut [Job]) -> Result<()> {
    // An immediate transaction takes the write lock at its beginning, so no later statement fails because of a lock.
    execute(db, "BEGIN IMMEDIATE")?;
    let written = run_each(db, jobs).and_then(|()| execute(db, "COMMIT"));
    if written.is_err() && !db.is_autocommit() {
        execute(db, "ROLLBACK")?;
    }
    written
}

/// Does each job, and undoes the writes of each failing job. Returns an error if the whole transaction failed.
fn run_each(db: &Connection, jobs: &mut [Job]) -> Result<()> {
    for job in jobs {
        execute(db, "SAVEPOINT job")?;
        match job.work.work(db) {
            Ok(()) => {}
            // A full disk and similar errors make SQLite undo the whole transaction.
            Err(error) if db.is_autocommit() => return Err(error),
            Err(_) => execute(db, "ROLLBACK TO job")?,
        }
        execute(db, "RELEASE job")?;
    }
    Ok(())
}

fn execute(db: &Connection, statement: &str) -> Result<()> {
    db.prepare_cached(statement)?.execute([]).map(drop)
}

/// Returns a copy of the error for one of the callers.
fn copy(error: &Error) -> Error {
    match error {
        Error::SqliteFailure(code, message) => Error::SqliteFailure(*code, message.clone()),
        other => {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
            Error::SqliteFailure(code, Some(other.to_string()))
        }
    }
}
