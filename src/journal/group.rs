//! Thread that owns the connection: it takes all waiting jobs as one group, and writes each group in one transaction.
//!
//! A transaction is far more expensive than a row: locks, frames of the log, and a wait for the disk if the write must
//! be durable. The statements are in `queries.rs`, the methods that request them in `handle.rs`.

use std::time::Duration;

use rusqlite::{Connection, Error, Result};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::open_journal::OpenJournal;

/// Number of jobs that may wait for the thread before callers have to wait, and of jobs in one group.
pub(super) const WAITING: usize = 256;

/// Maximum delay of a write without a waiting caller. The write is delayed to be written together with another one.
pub(super) const LINGER: Duration = Duration::from_millis(20);

/// Durability of a write: the records that a power cut may delete after the answer, and the time of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A power cut deletes nothing: the write is on the disk.
    Kept,
    /// A power cut may delete the last few writes: the record is a hint, or can be determined again.
    Hint,
    /// As with `Hint`, but no caller waits: the write is done together with the next write, or after [`LINGER`].
    InPassing,
}

/// Job for the thread.
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
    /// Creates a read. The read sees every write that was requested before the read.
    pub(super) fn read<T: Send + 'static>(
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        Self::new(JobKind::Read, work)
    }

    /// Creates a write, which is done completely or not at all. The answer is sent once the write is as durable as
    /// `promise` requires.
    pub(super) fn write<T: Send + 'static>(
        promise: Durability,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        Self::new(JobKind::Write(promise), work)
    }

    fn new<T: Send + 'static>(
        kind: JobKind,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(Question { work: Some(work), outcome: None, answer });
        (Self { kind, work }, answered)
    }
}

/// Job in two steps, because its result is not valid before the group is committed.
trait Work: Send {
    /// Does the work, once. The returned error is a copy: the answer keeps its own.
    fn work(&mut self, db: &Connection) -> Result<()>;

    /// Sends the result of the work, or the error of its group.
    fn answer(self: Box<Self>, group: Result<()>);
}

struct Question<T, W> {
    work: Option<W>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T: Send, W: FnOnce(&Connection) -> Result<T> + Send> Work for Question<T, W> {
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
            // Neither done nor failed: the caller gets the error that the journal is closed.
            (None, Ok(())) => return,
        };
        // The caller may no longer exist. The work is done nevertheless.
        let _ = self.answer.send(answer);
    }
}

/// Sending side of the thread's queues.
#[derive(Debug)]
pub(super) struct Asking {
    /// Dropped before `waited_for`: once `waited_for` has ended, no more jobs arrive in this queue.
    in_passing: mpsc::Sender<Job>,
    waited_for: mpsc::Sender<Job>,
}

/// Receiving side of the thread's queues.
pub(super) struct Asked {
    in_passing: mpsc::Receiver<Job>,
    waited_for: mpsc::Receiver<Job>,
}

/// Creates two queues, so that writes without a waiting caller do not wake the thread each time.
pub(super) fn queues() -> (Asking, Asked) {
    let (pass, in_passing) = mpsc::channel(WAITING);
    let (wait, waited_for) = mpsc::channel(WAITING);
    (Asking { in_passing: pass, waited_for: wait }, Asked { in_passing, waited_for })
}

impl Asking {
    /// Puts a job into its queue. Returns false if the thread has ended.
    pub(super) async fn put(&self, job: Job) -> bool {
        let queue = if job.kind == JobKind::Write(Durability::InPassing) { &self.in_passing } else { &self.waited_for };
        queue.send(job).await.is_ok()
    }
}

/// Does the jobs, group by group, until no handle is left. `clock` is this thread's own.
pub(super) fn serve(held: &mut OpenJournal, mut asked: Asked, clock: &Runtime) {
    let (mut group, mut durable) = (Vec::new(), None);
    while clock.block_on(asked.gather(&mut group)) {
        let (writes, reads): (Vec<Job>, Vec<Job>) = group.drain(..).partition(|job: &Job| job.kind != JobKind::Read);
        if writes.is_empty() {
            held.follow();
        } else {
            match held.keep_in_place() {
                Ok(is_other) => {
                    durable = durable.filter(|_| !is_other);
                    write(&held.connection, writes, &mut durable);
                }
                Err(error) => writes.into_iter().for_each(|job| job.work.answer(Err(copy(&error)))),
            }
        }
        let connection = &held.connection;
        // Reads are done after the writes, so that each read sees the writes that were requested before it.
        for mut job in reads {
            // The job's own answer holds the error.
            let _ = job.work.work(connection);
            job.work.answer(Ok(()));
        }
    }
}

impl Asked {
    /// Takes all waiting jobs. The order of requests is kept where it matters: notes without a waiting caller come
    /// before jobs that were requested later. Returns false at the end.
    pub(super) async fn gather(&mut self, group: &mut Vec<Job>) -> bool {
        let mut waited_for = Vec::new();
        tokio::select! {
            biased;
            _ = self.waited_for.recv_many(&mut waited_for, WAITING) => {}
            Some(job) = self.in_passing.recv() => {
                group.push(job);
                // After the timeout, waiting notes are written even if no job arrives.
                let _ = tokio::time::timeout(LINGER, self.waited_for.recv_many(&mut waited_for, WAITING)).await;
            }
        }
        // One more than the queue holds: every note that was queued before a waiting caller's job is taken.
        while group.len() <= WAITING
            && let Ok(job) = self.in_passing.try_recv()
        {
            group.push(job);
        }
        group.append(&mut waited_for);
        !group.is_empty()
    }
}

/// Writes jobs in one transaction, as durably as the most demanding job requires, and sends the answers once the
/// transaction is committed.
fn write(db: &Connection, mut jobs: Vec<Job>, durable: &mut Option<bool>) {
    if jobs.is_empty() {
        return;
    }
    let keep = jobs.iter().any(|job| job.kind == JobKind::Write(Durability::Kept));
    let written = promise(db, keep, durable).and_then(|()| commit(db, &mut jobs));
    for job in jobs {
        job.work.answer(written.as_ref().map(|_| ()).map_err(copy));
    }
}

/// Sets whether the next commit waits for the disk, if the last one did otherwise.
fn promise(db: &Connection, keep: bool, durable: &mut Option<bool>) -> Result<()> {
    if *durable != Some(keep) {
        *durable = None;
        db.pragma_update(None, "synchronous", if keep { "FULL" } else { "NORMAL" })?;
        *durable = Some(keep);
    }
    Ok(())
}

fn commit(db: &Connection, jobs: &mut [Job]) -> Result<()> {
    // The transaction takes the write lock at once, so that it never has to be restarted.
    run(db, "BEGIN IMMEDIATE")?;
    let written = work_each(db, jobs).and_then(|()| run(db, "COMMIT"));
    if written.is_err() && !db.is_autocommit() {
        run(db, "ROLLBACK")?;
    }
    written
}

/// Does each job, and undoes the writes of a failing job. An error ends the transaction, and all jobs in it.
fn work_each(db: &Connection, jobs: &mut [Job]) -> Result<()> {
    for job in jobs {
        run(db, "SAVEPOINT job")?;
        match job.work.work(db) {
            Ok(()) => {}
            // A full disk and similar errors undo the whole transaction, not just one statement.
            Err(error) if db.is_autocommit() => return Err(error),
            Err(_) => run(db, "ROLLBACK TO job")?,
        }
        run(db, "RELEASE job")?;
    }
    Ok(())
}

fn run(db: &Connection, statement: &str) -> Result<()> {
    db.prepare_cached(statement)?.execute([]).map(drop)
}

/// Returns a copy of the error for another caller.
fn copy(error: &Error) -> Error {
    match error {
        Error::SqliteFailure(code, message) => Error::SqliteFailure(*code, message.clone()),
        other => {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
            Error::SqliteFailure(code, Some(other.to_string()))
        }
    }
}
