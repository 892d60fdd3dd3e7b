//! Creation of the journal's file, and new SQLite connections to the file.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{JournalError, carrying};
use crate::regular_file;

/// Maximum time to wait while another process locks the journal.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Creates the file and its folder if they are missing. Returns the canonical path of the file (absolute, without
/// symbolic links).
pub(super) fn create(path: &Path) -> Result<PathBuf, JournalError> {
    let failed = |error| unopened(path, error);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|error| JournalError::from_folder(path, folder, error))?;
    }
    expect_regular(path)?;
    // SQLite gives its files `-wal` and `-shm` the mode of this file. Do not open an existing file here: when a process
    // closes any descriptor of a file, the process loses all its locks on the file (fcntl(2), "Advisory record
    // locking").
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let path = fs::canonicalize(path).map_err(failed)?;
    expect_regular(&path)?;
    Ok(path)
}

/// Returns an error if one of these files exists and is not a regular file: the journal, and the files that SQLite
/// keeps beside the journal. SQLite would block on a pipe, or write to a device.
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

/// Maximum number of prepared statements in the connection's cache. The cache has space for all statements of the
/// program.
const CACHED_STATEMENTS: usize = 64;

/// Size in bytes to which SQLite truncates the write-ahead log after a checkpoint. While a reader delays the
/// checkpoint, the log can be larger.
const LOG_LIMIT: i64 = 4 << 20;

/// Size of a connection's page cache, in KiB. The operating system also caches the file, so a larger cache has little
/// effect.
const CACHE_KIB: i64 = 512;

pub(super) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    let opened = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = opened.map_err(|error| system_error(path, mode).unwrap_or_else(|| failed(error)))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    // A negative value sets the size in KiB. A positive value would set the number of pages.
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(())).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    carrying::prepare(&connection).map_err(failed)?;
    Ok(connection)
}

/// Returns the operating system's error for a file that SQLite could not open. Returns `None` if the operating system
/// can open the file.
fn system_error(path: &Path, mode: OpenFlags) -> Option<JournalError> {
    let writes = mode.contains(OpenFlags::SQLITE_OPEN_READ_WRITE);
    let error = OpenOptions::new().read(true).append(writes).open(path).err()?;
    Some(if writes { unopened(path, error) } else { JournalError::Open { path: path.to_owned(), source: error } })
}

/// Enables the write-ahead log. If another process enables the log at the same time, SQLite returns "busy" immediately,
/// so this function retries.
pub(super) fn enable_write_ahead_log(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let started = Instant::now();
    loop {
        let answer = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match answer.map_err(|error| JournalError::from_sqlite(path, error)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if !matches!(error, JournalError::Busy { .. }) => return Err(error),
            _ if started.elapsed() > BUSY_TIMEOUT => return Err(JournalError::Busy { path: path.to_owned() }),
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
}
