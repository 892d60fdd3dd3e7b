//! File of the journal: its creation, its mode, and how it is opened.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{JournalError, carrying};
use crate::regular_file;

/// Maximum time that another process may lock the journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates the file if it is missing, and returns the one path under which all processes know it.
pub(super) fn create(path: &Path) -> Result<PathBuf, JournalError> {
    let failed = |error| unopened(path, error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    expect_regular(path)?;
    // SQLite gives the mode of this file to the files that it puts beside it. An existing file is not opened here:
    // closing it would release the locks that this process holds by another handle (fcntl(2), "Advisory record
    // locking").
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let path = fs::canonicalize(path).map_err(failed)?;
    expect_regular(&path)?;
    Ok(path)
}

/// Refuses a journal that is no regular file. Also refuses a journal if a file that SQLite keeps beside it is a pipe or
/// a device. SQLite would wait for such a file, or write to it.
pub(super) fn expect_regular(path: &Path) -> Result<(), JournalError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = PathBuf::from(name);
        regular_file::expect_regular(&file).map_err(|error| unopened(&file, error))?;
    }
    Ok(())
}

pub(super) fn unopened(path: &Path, source: io::Error) -> JournalError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => JournalError::ReadOnly { path },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::Full { path },
        _ => JournalError::Open { path, source },
    }
}

/// Number of statements that stay parsed. The limit is larger than the number of statements in the program.
const STATEMENTS: usize = 64;

/// Size in bytes to which the log is cut once all of it has been written to the file. SQLite's default allows the log
/// to grow to this size. A reader that delays SQLite may make the log larger.
const LOG_LIMIT: i64 = 4 << 20;

/// Size of a connection's page cache, in KiB. The system caches the file as well, so a larger cache has little effect.
/// Each page that a run appends stays in the cache until the cache is full: with SQLite's default of 2 MB, memory grew
/// for some five thousand runs.
const CACHE_KIB: i64 = 512;

pub(super) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    let opened = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = opened.map_err(|error| refused_by_system(path, mode).unwrap_or_else(|| failed(error)))?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    // Negative: the figure is in KiB, not in pages.
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(())).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    carrying::prepare(&connection).map_err(failed)?;
    Ok(connection)
}

/// Returns the system's reason for a file that SQLite could not open.
fn refused_by_system(path: &Path, mode: OpenFlags) -> Option<JournalError> {
    let writes = mode.contains(OpenFlags::SQLITE_OPEN_READ_WRITE);
    let error = OpenOptions::new().read(true).append(writes).open(path).err()?;
    Some(if writes { unopened(path, error) } else { JournalError::Open { path: path.to_owned(), source: error } })
}

/// Turns on the write-ahead log. While another process does the same, SQLite returns "busy" without waiting.
pub(super) fn write_ahead(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let begun = Instant::now();
    loop {
        let answer = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match answer.map_err(|error| JournalError::from_sqlite(path, error)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if !matches!(error, JournalError::Busy { .. }) => return Err(error),
            _ if begun.elapsed() > PATIENCE => return Err(JournalError::Busy { path: path.to_owned() }),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
}
