//! The thread that owns the connection: it takes what waits for it as one group, and writes the group in one transaction.
//!
//! A transaction costs far more than a row: locks, frames of the log, and a wait for the disk where the write is to be
//! kept. What it is that is written stands in `queries.rs`, who may ask for it in `handle.rs`.

use std::time::Duration;

use rusqlite::{Connection, Error, Result};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::held::Held;

/// How many jobs may wait for the thread before those who ask wait themselves, and how many are done as one group.
pub(super) const WAITING: usize = 256;

/// How long a write that nobody waits for may wait for another one to be written with.
pub(super) const LINGER: Duration = Duration::from_millis(20);

/// What a power cut may take from a write that was answered, and when the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nothing: it is on the disk.
    Kept,
    /// The last few: it is a hint, or can be found out again.
    Hint,
    /// The same, and nobody waits for it: it is written with whatever is written next, or after [`LINGER`].
    InPassing,
}

/// Something that the thread is to do.
pub(super) struct Job {
    kind: Kind,
    work: Box<dyn Work>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write(Promise),
}

/// The answer to a job, to be awaited.
pub(super) type Answer<T> = oneshot::Receiver<Result<T>>;

impl Job {
    /// Reads what was written before it was asked for.
    pub(super) fn read<T: Send + 'static>(
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        Self::of(Kind::Read, work)
    }

    /// Writes as a whole or not at all, and is answered when it is written as `promise` says.
    pub(super) fn write<T: Send + 'static>(
        promise: Promise,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        Self::of(Kind::Write(promise), work)
    }

    fn of<T: Send + 'static>(
        kind: Kind,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(Question { work: Some(work), outcome: None, answer });
        (Self { kind, work }, answered)
    }
}

/// A job in two steps, because what it found is worth nothing before the group is committed.
trait Work: Send {
    /// Does it, once. The error is a copy: the answer keeps its own.
    fn work(&mut self, db: &Connection) -> Result<()>;

    /// Answers with what the work found, or with what became of its group.
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
            // Neither done nor failed: whoever asked is told that the journal is closed.
            (None, Ok(())) => return,
        };
        // Who asked may have gone; the work is done all the same.
        let _ = self.answer.send(answer);
    }
}

/// Where jobs are put for the thread.
#[derive(Debug)]
pub(super) struct Asking {
    /// Let go of before the other: when that one has ended, nothing more comes here.
    in_passing: mpsc::Sender<Job>,
    waited_for: mpsc::Sender<Job>,
}

/// Where the thread finds them.
pub(super) struct Asked {
    in_passing: mpsc::Receiver<Job>,
    waited_for: mpsc::Receiver<Job>,
}

/// Two queues, so that what nobody waits for does not wake the thread each time.
pub(super) fn queues() -> (Asking, Asked) {
    let (pass, in_passing) = mpsc::channel(WAITING);
    let (wait, waited_for) = mpsc::channel(WAITING);
    (Asking { in_passing: pass, waited_for: wait }, Asked { in_passing, waited_for })
}

impl Asking {
    /// Puts a job into its queue. False if the thread has ended.
    pub(super) async fn put(&self, job: Job) -> bool {
        let queue = if job.kind == Kind::Write(Promise::InPassing) { &self.in_passing } else { &self.waited_for };
        queue.send(job).await.is_ok()
    }
}

/// Does what is asked, group by group, until nobody is left to ask. `clock` is this thread's own.
pub(super) fn serve(held: &mut Held, mut asked: Asked, clock: &Runtime) {
    let (mut group, mut durable) = (Vec::new(), None);
    while clock.block_on(asked.gather(&mut group)) {
        let (writes, reads): (Vec<Job>, Vec<Job>) = group.drain(..).partition(|job: &Job| job.kind != Kind::Read);
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
        // Behind the writes, so that they see those that were asked for before them.
        for mut job in reads {
            // An error is in the job's own answer.
            let _ = job.work.work(connection);
            job.work.answer(Ok(()));
        }
    }
}

impl Asked {
    /// Everything that waits, in an order in which what was asked for first comes first wherever it matters: notes in
    /// passing before what somebody asked for behind them. False at the end.
    pub(super) async fn gather(&mut self, group: &mut Vec<Job>) -> bool {
        let mut waited_for = Vec::new();
        tokio::select! {
            biased;
            _ = self.waited_for.recv_many(&mut waited_for, WAITING) => {}
            Some(job) = self.in_passing.recv() => {
                group.push(job);
                // Running out of time is as good a reason to write as any.
                let _ = tokio::time::timeout(LINGER, self.waited_for.recv_many(&mut waited_for, WAITING)).await;
            }
        }
        // One more than the queue holds: none that was there before what is waited for stays behind.
        while group.len() <= WAITING
            && let Ok(job) = self.in_passing.try_recv()
        {
            group.push(job);
        }
        group.append(&mut waited_for);
        !group.is_empty()
    }
}

/// Writes jobs in one transaction, as durably as the most demanding asks for, and answers them when it is committed.
fn write(db: &Connection, mut jobs: Vec<Job>, durable: &mut Option<bool>) {
    if jobs.is_empty() {
        return;
    }
    let keep = jobs.iter().any(|job| job.kind == Kind::Write(Promise::Kept));
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
    // Takes the right to write at once, so that it never has to be begun again.
    run(db, "BEGIN IMMEDIATE")?;
    let written = work_each(db, jobs).and_then(|()| run(db, "COMMIT"));
    if written.is_err() && !db.is_autocommit() {
        run(db, "ROLLBACK")?;
    }
    written
}

/// Does each job, and takes back what a failing one has written. An error is the end of the transaction, and of all.
fn work_each(db: &Connection, jobs: &mut [Job]) -> Result<()> {
    for job in jobs {
        run(db, "SAVEPOINT job")?;
        match job.work.work(db) {
            Ok(()) => {}
            // A full disk and the like undo the whole transaction, not the one statement.
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

/// The same error for another who is told of it.
fn copy(error: &Error) -> Error {
    match error {
        Error::SqliteFailure(code, message) => Error::SqliteFailure(*code, message.clone()),
        other => {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
            Error::SqliteFailure(code, Some(other.to_string()))
        }
    }
}
