//! Open journal of the thread: the connection, and the files that belong to it. Before each group of jobs the thread
//! checks that the files are still at their paths. If a file was removed, SQLite continues to write to it, and these
//! writes are lost when the process ends.
//!
//! Three things can have happened. Each is repaired here and logged as an error:
//! - The file or its log was removed. The journal is written again from the connection, which has all of its content.
//! - Another file is at its path. That file is the journal from now on, since the operator and all other processes use
//!   it. The file that was open is kept beside it, and the records of this process are carried over.
//! - The lock file of this process was removed. Other processes would assume that its runs are dead, so the process
//!   gets a new lock file.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Error, OpenFlags, Result, ffi};

use super::carrying::{Numbers, carry_over};
use super::file::{connect, write_ahead};
use super::owner::Owner;
use super::{JournalError, migrations, queries};

/// Time between two attempts to repair a journal: it can be large.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);

/// Open connection with its files.
pub(super) struct OpenJournal {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Configured path, if it is a link to the file.
    named: PathBuf,
    files: Files,
    /// Row and lock of this process. [`None`] for a reader.
    own: Option<(i64, Owner)>,
    numbers: Numbers,
    mended: Arc<AtomicU64>,
    failed: Option<(Instant, String)>,
}

/// File behind a path: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// Files of an open journal. The log exists from the first access on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Files {
    file: Identity,
    log: Option<Identity>,
    index: Option<Identity>,
}

/// Damage to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// There is no file at the path.
    Missing,
    /// Another file is at the path.
    Replaced,
    /// The file is at the path without its log, or with another log.
    Log,
    /// Only the lock file of this process was removed.
    Lock,
}

fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(Identity(found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the path with an ending added to its name, as SQLite names the files beside a database.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ending);
    path.into()
}

impl Files {
    fn inspect(path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = identity(path)? else { return Ok(None) };
        Ok(Some(Self { file, log: identity(&beside(path, "-wal"))?, index: identity(&beside(path, "-shm"))? }))
    }
}

impl OpenJournal {
    /// Takes a connection that has just been opened. The journal is for writing if it has a row and a lock. `mended`
    /// counts the repairs of the files.
    pub(super) fn new(
        connection: Connection,
        named: &Path,
        path: PathBuf,
        own: Option<(i64, Owner)>,
        mended: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let found = Files::inspect(&path)?.ok_or(io::ErrorKind::NotFound)?;
        let numbers = Numbers(HashMap::new());
        Ok(Self { connection, named: named.to_owned(), path, files: found, own, numbers, mended, failed: None })
    }

    /// Repairs damage to the files. Returns true if the connection is a new one.
    ///
    /// # Errors
    /// The files cannot be repaired. Nothing may be written then.
    pub(super) fn keep_in_place(&mut self) -> Result<bool> {
        let loss = match self.loss() {
            Ok(None) => {
                self.failed = None;
                return Ok(false);
            }
            Ok(Some(loss)) => loss,
            Err(error) => return Err(lost(&error.to_string())),
        };
        if let Some((at, reason)) = self.failed.as_ref().filter(|(at, _)| at.elapsed() < BETWEEN_ATTEMPTS) {
            debug_assert!(*at <= Instant::now());
            return Err(lost(reason));
        }
        let is_first = self.failed.is_none();
        match self.mend(loss) {
            Ok(is_other) => {
                self.failed = None;
                self.mended.fetch_add(1, Ordering::Relaxed);
                Ok(is_other)
            }
            Err(reason) => {
                if is_first {
                    tracing::error!(
                        journal = %self.path.display(), reason,
                        "the journal was removed or replaced while it was open and cannot be written again: \
                         no tag moves until it can"
                    );
                }
                self.failed = Some((Instant::now(), reason.clone()));
                Err(lost(&reason))
            }
        }
    }

    /// Follows the file at the path, for a reader. If there is no file, the reader keeps the connection that it has.
    pub(super) fn follow(&mut self) -> bool {
        let moved = matches!(Files::inspect(&self.path), Ok(Some(found)) if found.file != self.files.file);
        if !moved {
            return false;
        }
        let opened = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let opened = opened.and_then(|db| migrations::require_top(&db, &self.path).map(|()| db));
        match (opened, Files::inspect(&self.path)) {
            (Ok(connection), Ok(Some(files))) => {
                (self.connection, self.files) = (connection, files);
                true
            }
            (Err(error), _) => {
                tracing::warn!(
                    %error,
                    "another journal was put in place and cannot be read: the status page shows the old one"
                );
                false
            }
            _ => false,
        }
    }

    /// Closes the file before the lock is released.
    pub(super) fn close(self) {
        let Self { connection, own, .. } = self;
        drop(connection);
        drop(own);
    }

    fn loss(&self) -> io::Result<Option<Loss>> {
        let Some(found) = Files::inspect(&self.path)? else { return Ok(Some(Loss::Missing)) };
        if found.file != self.files.file {
            return Ok(Some(Loss::Replaced));
        }
        if self.named != self.path && identity(&self.named)? != Some(self.files.file) {
            let to = fs::canonicalize(&self.named).map_or_else(|_| "nowhere".to_owned(), |to| to.display().to_string());
            let named = self.named.display();
            return Err(io::Error::other(format!("{named} leads to {to} now: restart transship")));
        }
        let log = self.files.log.is_some() && found.log != self.files.log;
        let index = self.files.index.is_some() && found.index != self.files.index;
        let lock = self.own.as_ref().is_some_and(|(_, owner)| !owner.is_in_place());
        Ok(if log || index { Some(Loss::Log) } else { lock.then_some(Loss::Lock) })
    }

    fn mend(&mut self, loss: Loss) -> std::result::Result<bool, String> {
        let path = self.path.display().to_string();
        match loss {
            Loss::Lock => {
                self.take_new_lock()?;
                tracing::error!(
                    journal = path,
                    "the lock file of this process beside the journal was removed, and is written again"
                );
                Ok(false)
            }
            Loss::Missing | Loss::Log => {
                self.write_anew(loss == Loss::Missing)?;
                self.switch(None)?;
                let what = if loss == Loss::Missing { "the journal" } else { "the log of the journal" };
                tracing::error!(
                    journal = path,
                    "{what} was removed while it was open; the journal is written again without loss"
                );
                Ok(true)
            }
            Loss::Replaced => {
                // The old file is saved only once the new one could be opened: a copy for each attempt would fill the
                // disk.
                let other = self.open_other()?;
                let saved = self.save(Utc::now())?;
                self.switch(Some((other, &saved)))?;
                tracing::error!(
                    journal = path, saved = %saved.display(),
                    "another file was put in the journal's place: it is the journal from now on. \
                     The one that was open is kept, and the records of this process are carried over"
                );
                Ok(true)
            }
        }
    }

    fn take_new_lock(&mut self) -> std::result::Result<(), String> {
        let Some((process, owner)) = &mut self.own else { return Ok(()) };
        let new = Owner::beside(&self.path).map_err(|error| error.to_string())?;
        queries::rename_lock(&self.connection, *process, new.name()).map_err(|error| error.to_string())?;
        *owner = new;
        Ok(())
    }

    /// Writes a complete copy of the connection's content to the path. The copy replaces nothing, or the file without
    /// its log.
    fn write_anew(&self, is_missing: bool) -> std::result::Result<(), String> {
        if let Some(folder) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let new = beside(&self.path, &format!(".{}.new", std::process::id()));
        let put = || {
            self.copy_to(&new)?;
            // SQLite would use the log of another database with the new file.
            self.remove_log()?;
            let put = if is_missing { link_or_rename(&new, &self.path) } else { fs::rename(&new, &self.path) };
            put.map_err(|error| format!("{}: {error}", self.path.display()))
        };
        let outcome = put();
        let _ = fs::remove_file(&new);
        outcome
    }

    /// Saves a copy beside the journal, under a name with the time of its replacement.
    fn save(&self, now: DateTime<Utc>) -> std::result::Result<PathBuf, String> {
        let saved = beside(&self.path, &format!(".replaced-{}", now.format("%Y%m%dT%H%M%S%3fZ")));
        self.copy_to(&saved)?;
        Ok(saved)
    }

    /// Copies all content that the connection sees into a new file, and waits until the copy is on the disk.
    fn copy_to(&self, new: &Path) -> std::result::Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", new.display());
        let _ = fs::remove_file(new);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new).map_err(|e| failed(&e))?;
        let name = new.to_str().ok_or_else(|| failed(&"the path is not UTF-8"))?;
        let copied = self.connection.execute("VACUUM INTO ?1", [name]).map_err(|error| failed(&error));
        let kept = copied.and_then(|_| file.sync_all().map_err(|error| failed(&error)));
        if kept.is_err() {
            let _ = fs::remove_file(new);
        }
        if let Some(folder) = new.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        kept
    }

    /// Removes the files at the paths of the log and its index.
    fn remove_log(&self) -> std::result::Result<(), String> {
        for ending in ["-wal", "-shm"] {
            match fs::remove_file(beside(&self.path, ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the file that is at the path now. A log of the old file that is left there does not belong to it.
    fn open_other(&self) -> std::result::Result<Connection, String> {
        let found = Files::inspect(&self.path).map_err(|error| error.to_string())?;
        if found.is_some_and(|found| found.log.is_some() && found.log == self.files.log) {
            self.remove_log()?;
        }
        open(&self.path).map_err(|error| error.to_string())
    }

    /// Switches to the file at the path: the rewritten file, or another one. Another file gets the records that only
    /// the `saved` copy has.
    fn switch(&mut self, other: Option<(Connection, &Path)>) -> std::result::Result<(), String> {
        let Some((process, owner)) = &self.own else { return Ok(()) };
        let failed = |error: Error| JournalError::from_sqlite(&self.path, error).to_string();
        let lock = if owner.is_in_place() { None } else { Some(Owner::beside(&self.path).map_err(|e| e.to_string())?) };
        let name = lock.as_ref().map_or(owner.name(), Owner::name);
        let (connection, process, numbers) = match other {
            None => {
                let connection = open(&self.path).map_err(|error| error.to_string())?;
                queries::rename_lock(&connection, *process, name).map_err(failed)?;
                (connection, *process, self.numbers.clone())
            }
            Some((mut connection, saved)) => {
                let (process, numbers) =
                    carry_over(&mut connection, saved, *process, name, &self.numbers).map_err(failed)?;
                (connection, process, numbers)
            }
        };
        numbers.insert_into(&connection).map_err(failed)?;
        let found = Files::inspect(&self.path).map_err(|error| error.to_string())?;
        self.files = found.ok_or("it was removed again")?;
        (self.connection, self.numbers) = (connection, numbers);
        if let Some(own) = &mut self.own {
            own.0 = process;
            if let Some(lock) = lock {
                own.1 = lock;
            }
        }
        Ok(())
    }
}

/// Opens a journal for writing, as at the start.
fn open(path: &Path) -> std::result::Result<Connection, JournalError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrations::migrate(&mut connection, path, migrations::MIGRATIONS)?;
    write_ahead(&connection, path)?;
    // The log exists from the first access on.
    connection
        .query_row("SELECT count(*) FROM processes", [], |_| Ok(()))
        .map_err(|e| JournalError::from_sqlite(path, e))?;
    Ok(connection)
}

/// Gives a file its name, unless another file has it.
fn link_or_rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system supports links.
        Err(_) if !to.exists() => fs::rename(from, to),
        linked => linked,
    }
}

/// Returns the error with which SQLite reports that the database was moved.
fn lost(reason: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(reason.to_owned()))
}
