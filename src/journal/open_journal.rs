//! Open journal: the connection of the journal's thread, and the files of the journal. Before each group of jobs, the
//! thread checks that the files are still at their paths. This check is needed because SQLite continues to write to a
//! removed file, and these writes are lost when the process ends.
//!
//! This file repairs three kinds of damage, and logs each repair as an error:
//! - The file or its log was removed. The journal is written again from the connection, which still has the complete
//!   content.
//! - Another file is at the path of the journal. The new file becomes the journal, since the operator and all other
//!   processes use it. The content of the old journal is saved in a file beside it, and the records of this process are
//!   copied into the new file.
//! - The lock file of this process was removed. Other processes would treat the process as ended and mark its runs as
//!   interrupted, so the process gets a new lock file.

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
use super::file::{connect, enable_write_ahead_log};
use super::process_lock::ProcessLock;
use super::{JournalError, migrations, queries};

/// Minimum time between two attempts to repair the files. An attempt may copy a large journal.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);

/// Connection to the journal, with the identities of its files.
pub(super) struct OpenJournal {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Path of the journal in the configuration. This path may be a link to `path`.
    configured: PathBuf,
    files: Files,
    /// Row number of this process in the table `processes`, and the lock of this process. [`None`] for a reader.
    own: Option<(i64, ProcessLock)>,
    numbers: Numbers,
    /// Number of repairs.
    repairs: Arc<AtomicU64>,
    /// Time and error of the last attempt to repair, if it failed.
    failed: Option<(Instant, String)>,
}

/// Identity of a file: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// Identities of the files of an open journal. SQLite creates the log and its index at the first access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Files {
    file: Identity,
    log: Option<Identity>,
    index: Option<Identity>,
}

/// Damage to the files of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// No file is at the path of the journal.
    Missing,
    /// Another file is at the path of the journal.
    Replaced,
    /// The file is at its path, but its log or the index of the log is missing or is another file.
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

/// Returns the path with `ending` appended to its file name. SQLite forms the names of the log (`-wal`) and of its
/// index (`-shm`) in the same way.
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
    /// Creates an open journal from a new connection. `own` is the row number and the lock of this process. `own` is
    /// `None` for a reader. `repairs` counts the repairs of the files.
    pub(super) fn new(
        connection: Connection,
        configured: &Path,
        path: PathBuf,
        own: Option<(i64, ProcessLock)>,
        repairs: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let found = Files::inspect(&path)?.ok_or(io::ErrorKind::NotFound)?;
        let numbers = Numbers(HashMap::new());
        Ok(Self {
            connection,
            configured: configured.to_owned(),
            path,
            files: found,
            own,
            numbers,
            repairs,
            failed: None,
        })
    }

    /// Repairs damage to the files, if any. Returns true if the repair opened a new connection.
    ///
    /// # Errors
    /// Returns an error if the files cannot be repaired. In this case, the caller must not write to the journal.
    pub(super) fn repair_files(&mut self) -> Result<bool> {
        let damage = match self.find_damage() {
            Ok(None) => {
                self.failed = None;
                return Ok(false);
            }
            Ok(Some(damage)) => damage,
            Err(error) => return Err(moved_error(&error.to_string())),
        };
        if let Some((at, reason)) = self.failed.as_ref().filter(|(at, _)| at.elapsed() < BETWEEN_ATTEMPTS) {
            debug_assert!(*at <= Instant::now());
            return Err(moved_error(reason));
        }
        let is_first = self.failed.is_none();
        match self.repair(damage) {
            Ok(is_new) => {
                self.failed = None;
                self.repairs.fetch_add(1, Ordering::Relaxed);
                Ok(is_new)
            }
            Err(reason) => {
                if is_first {
                    tracing::error!(
                        journal = %self.path.display(), reason,
                        "the journal was removed or replaced while it was open and cannot be written again: \
                         no tag is written until this is repaired"
                    );
                }
                self.failed = Some((Instant::now(), reason.clone()));
                Err(moved_error(&reason))
            }
        }
    }

    /// Opens the file at the path for reading, if this file is not the open file. If no file is at the path, the
    /// connection stays open. This method is called before a group of jobs that only read. Returns true if a file was
    /// opened. A journal that writes keeps its connection, because its next write saves the old file first
    /// ([`OpenJournal::repair_files`]).
    pub(super) fn reopen_if_replaced(&mut self) -> bool {
        if self.own.is_some() {
            return false;
        }
        let replaced = matches!(Files::inspect(&self.path), Ok(Some(found)) if found.file != self.files.file);
        if !replaced {
            return false;
        }
        let opened = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let opened = opened.and_then(|db| migrations::require_latest(&db, &self.path).map(|()| db));
        match (opened, Files::inspect(&self.path)) {
            (Ok(connection), Ok(Some(files))) => {
                (self.connection, self.files) = (connection, files);
                true
            }
            (Err(error), _) => {
                tracing::warn!(
                    %error,
                    "cannot read the file that replaced the journal: the status page shows the previous journal"
                );
                false
            }
            _ => false,
        }
    }

    /// Closes the file, and then releases the lock.
    pub(super) fn close(self) {
        let Self { connection, own, .. } = self;
        drop(connection);
        drop(own);
    }

    fn find_damage(&self) -> io::Result<Option<Damage>> {
        let Some(found) = Files::inspect(&self.path)? else { return Ok(Some(Damage::Missing)) };
        if found.file != self.files.file {
            return Ok(Some(Damage::Replaced));
        }
        if self.configured != self.path && identity(&self.configured)? != Some(self.files.file) {
            let to = fs::canonicalize(&self.configured)
                .map_or_else(|_| "a missing file".to_owned(), |to| to.display().to_string());
            let configured = self.configured.display();
            return Err(io::Error::other(format!(
                "{configured} is now a link to {to}: restart transship to use that file"
            )));
        }
        let log = self.files.log.is_some() && found.log != self.files.log;
        let index = self.files.index.is_some() && found.index != self.files.index;
        let lock = self.own.as_ref().is_some_and(|(_, lock)| !lock.is_in_place());
        Ok(if log || index { Some(Damage::Log) } else { lock.then_some(Damage::Lock) })
    }

    fn repair(&mut self, damage: Damage) -> std::result::Result<bool, String> {
        let path = self.path.display().to_string();
        match damage {
            Damage::Lock => {
                self.take_new_lock()?;
                tracing::error!(
                    journal = path,
                    "the lock file of this process beside the journal was removed: created a new one"
                );
                Ok(false)
            }
            Damage::Missing | Damage::Log => {
                self.rewrite(damage == Damage::Missing)?;
                self.switch(None)?;
                let what = if damage == Damage::Missing { "the journal" } else { "the log of the journal" };
                tracing::error!(
                    journal = path,
                    "{what} was removed while it was open: wrote the journal again, without loss"
                );
                Ok(true)
            }
            Damage::Replaced => {
                // The old content is saved only after the new file could be opened. Otherwise each failed attempt would
                // save a copy, and the copies would fill the disk.
                let other = self.open_other()?;
                let saved = self.save(Utc::now())?;
                self.switch(Some((other, &saved)))?;
                tracing::error!(
                    journal = path, saved = %saved.display(),
                    "the journal was replaced by another file: the new file is used from now on. \
                     The previous journal is saved, and the records of this process are copied into the new file"
                );
                Ok(true)
            }
        }
    }

    fn take_new_lock(&mut self) -> std::result::Result<(), String> {
        let Some((process, lock)) = &mut self.own else { return Ok(()) };
        let new = ProcessLock::beside(&self.path).map_err(|error| error.to_string())?;
        queries::rename_lock(&self.connection, *process, new.name()).map_err(|error| error.to_string())?;
        *lock = new;
        Ok(())
    }

    /// Writes a complete copy of the connection's content to the path of the journal. If `is_missing`, the copy
    /// replaces no file. Otherwise the copy replaces the file whose log was removed.
    fn rewrite(&self, is_missing: bool) -> std::result::Result<(), String> {
        if let Some(folder) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let new = beside(&self.path, &format!(".{}.new", std::process::id()));
        let put = || {
            self.copy_to(&new)?;
            // The old log is removed first. Otherwise SQLite would apply the old log to the new file.
            self.remove_log()?;
            let put = if is_missing { link_or_rename(&new, &self.path) } else { fs::rename(&new, &self.path) };
            put.map_err(|error| format!("{}: {error}", self.path.display()))
        };
        let outcome = put();
        let _ = fs::remove_file(&new);
        outcome
    }

    /// Saves the connection's content in a file beside the journal. The file name contains the time of the replacement.
    fn save(&self, now: DateTime<Utc>) -> std::result::Result<PathBuf, String> {
        let saved = beside(&self.path, &format!(".replaced-{}", now.format("%Y%m%dT%H%M%S%3fZ")));
        self.copy_to(&saved)?;
        Ok(saved)
    }

    /// Copies the connection's content into a new file, and waits until the copy is on the disk.
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

    /// Removes the log and its index.
    fn remove_log(&self) -> std::result::Result<(), String> {
        for ending in ["-wal", "-shm"] {
            match fs::remove_file(beside(&self.path, ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the file that replaced the journal. If the log of the old file is still at its path, removes this log
    /// first. Otherwise SQLite would apply the old log to the new file.
    fn open_other(&self) -> std::result::Result<Connection, String> {
        let found = Files::inspect(&self.path).map_err(|error| error.to_string())?;
        if found.is_some_and(|found| found.log.is_some() && found.log == self.files.log) {
            self.remove_log()?;
        }
        open(&self.path).map_err(|error| error.to_string())
    }

    /// Switches to the file at the path. If [`Self::rewrite`] wrote this file, `other` is `None`. If this file replaced
    /// the journal, `other` contains the connection to the file, and the path of the saved old content. The records of
    /// this process are then copied from the old content into the new file.
    fn switch(&mut self, other: Option<(Connection, &Path)>) -> std::result::Result<(), String> {
        let Some((process, current)) = &self.own else { return Ok(()) };
        let failed = |error: Error| JournalError::from_sqlite(&self.path, error).to_string();
        let new_lock = if current.is_in_place() {
            None
        } else {
            Some(ProcessLock::beside(&self.path).map_err(|e| e.to_string())?)
        };
        let name = new_lock.as_ref().map_or(current.name(), ProcessLock::name);
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
        self.files = found.ok_or("the file was removed again")?;
        (self.connection, self.numbers) = (connection, numbers);
        if let Some(own) = &mut self.own {
            own.0 = process;
            if let Some(lock) = new_lock {
                own.1 = lock;
            }
        }
        Ok(())
    }
}

/// Opens a journal for writing, and migrates it.
fn open(path: &Path) -> std::result::Result<Connection, JournalError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrations::migrate(&mut connection, path, migrations::MIGRATIONS)?;
    enable_write_ahead_log(&connection, path)?;
    // SQLite creates the log at the first access.
    connection
        .query_row("SELECT count(*) FROM processes", [], |_| Ok(()))
        .map_err(|e| JournalError::from_sqlite(path, e))?;
    Ok(connection)
}

/// Renames a file, unless another file has the new name.
fn link_or_rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems do not support hard links.
        Err(_) if !to.exists() => fs::rename(from, to),
        linked => linked,
    }
}

/// Returns an error with SQLite's code for a moved database file, and with the given reason.
fn moved_error(reason: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(reason.to_owned()))
}
