//! Open journal: the SQLite connection, with checks and repairs of the journal's files. Before each group of jobs, the
//! journal's thread checks that the files are still at their paths. Without this check, SQLite would continue to write
//! to a removed file, and these writes would be lost when the process ends.
//!
//! [`OpenJournal`] repairs three kinds of damage, and logs each repair as an error:
//! - If the file or its log was removed, transship recreates the file from the open connection. The connection can
//!   still read the complete content.
//! - If another file is at the path of the journal, this file becomes the journal, because all other processes use this
//!   file. transship saves the content of the old journal in a file beside the new file, and copies the records of this
//!   process into the new file.
//! - If the lock file of this process was removed, transship creates a new lock file. Without a lock file, other
//!   processes would mark the runs of this process as interrupted.

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
    /// Row number of this process in the table `processes`, and the lock of this process. [`None`] if the journal is
    /// open for reading only.
    own: Option<(i64, ProcessLock)>,
    numbers: Numbers,
    /// Number of repairs.
    repairs: Arc<AtomicU64>,
    /// Time and error of the last attempt to repair the files, if this attempt failed.
    failed: Option<(Instant, String)>,
}

/// Identity of a file: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// Identities of the files of an open journal. `log` and `index` are `None` until SQLite creates these files.
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
    /// The journal's file is at its path, but its write-ahead log, or the index of the log, was removed or replaced.
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
    /// Creates an open journal from a new connection. `own` is the row number and the lock of this process, or `None`
    /// if the journal is open for reading only.
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
                        "the journal's files were removed or replaced, and transship cannot restore them now: \
                            transship writes no tag, and tries again to restore the files"
                    );
                }
                self.failed = Some((Instant::now(), reason.clone()));
                Err(moved_error(&reason))
            }
        }
    }

    /// In a process that only reads the journal: if another file has replaced the open file, opens the new file and
    /// returns true. In a process that writes, returns false, because [`OpenJournal::repair_files`] repairs the files
    /// before the next write.
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
                    "the lock file of this process in the journal's folder was removed: created a new lock file"
                );
                Ok(false)
            }
            Damage::Missing | Damage::Log => {
                self.rewrite(damage == Damage::Missing)?;
                self.switch(None)?;
                let what = if damage == Damage::Missing { "the journal" } else { "the log of the journal" };
                tracing::error!(journal = path, "{what} was removed while it was open: restored the complete journal");
                Ok(true)
            }
            Damage::Replaced => {
                // The new file is opened before the old content is saved. Otherwise each failed attempt would save
                // another copy, and the copies would fill the disk.
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

    /// Writes a complete copy of the connection's content to the path of the journal. If `is_missing` is true, the copy
    /// never replaces an existing file. If `is_missing` is false, the copy replaces the file whose log was removed.
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

    /// Saves the connection's content in a file beside the journal. The file name contains the time `now`.
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

    /// Opens the file that replaced the journal. If the old journal's log is still at its path, removes this log first.
    /// Otherwise SQLite would apply the old log to the new file.
    fn open_other(&self) -> std::result::Result<Connection, String> {
        let found = Files::inspect(&self.path).map_err(|error| error.to_string())?;
        if found.is_some_and(|found| found.log.is_some() && found.log == self.files.log) {
            self.remove_log()?;
        }
        open(&self.path).map_err(|error| error.to_string())
    }

    /// Makes the file at the journal's path the open journal. If [`Self::rewrite`] wrote the file, `other` is `None`.
    /// If another program replaced the file, `other` contains the connection to the new file, and the path of the saved
    /// old content. In this case, the records of this process are copied from the saved content into the new file.
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

/// Opens and migrates a journal for writing.
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

/// Renames a file. Returns an error if another file has the new name.
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
