//! Errors of the journal: one variant for each remedy that an operator has.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Failure of the journal. Each variant contains the path of the file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file does not exist, and the journal was opened for reading only.
    #[error(
        "there is no journal at {}: the first run creates it, at the path that `daemon.journal` of sync.yaml sets",
        path.display()
    )]
    Missing {
        /// Path that was opened.
        path: PathBuf,
    },
    /// The file or its folder cannot be opened or created.
    #[error("cannot open the journal {}: {source}", path.display())]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A newer version of transship wrote the file.
    #[error(
        "the journal {} has version {found}, this program supports versions up to {known}: use a newer transship",
        path.display()
    )]
    Newer {
        /// Path of the file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Newest version that this program supports.
        known: u32,
    },
    /// An older version of transship wrote the file, and the journal was opened for reading only, without a migration.
    #[error(
        "the journal {} has version {found}, this program needs version {known}: the next `transship run` or `once` \
         migrates it",
        path.display()
    )]
    Older {
        /// Path of the file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Version that this program needs.
        known: u32,
    },
    /// The file is not a journal.
    #[error("{} is not a journal of transship: choose another path for `daemon.journal`", path.display())]
    Foreign {
        /// Path of the file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk is full: the journal {} cannot be written", path.display())]
    Full {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file, its folder or its file system is read-only.
    #[error("the journal {} is read-only: its file and its folder must be writable", path.display())]
    ReadOnly {
        /// Path of the file.
        path: PathBuf,
    },
    /// The files of the journal were removed or replaced while the journal was open, and could not be restored.
    #[error(
        "the files of the journal {} were removed or replaced, and transship cannot restore them: {reason}",
        path.display()
    )]
    Lost {
        /// Path of the file.
        path: PathBuf,
        /// Reason why the files cannot be restored.
        reason: String,
    },
    /// Another process has kept the journal locked for longer than the time limit.
    #[error("another process kept the journal {} locked until the time limit", path.display())]
    Busy {
        /// Path of the file.
        path: PathBuf,
    },
    /// A row contains a value that this program never writes, or the database is corrupt.
    #[error("the journal {} is damaged: {reason}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Column and value, or the error of the database.
        reason: String,
    },
    /// Any other error of the database.
    #[error("the journal {}: {source}", path.display())]
    Database {
        /// Path of the file.
        path: PathBuf,
        /// Error of the database.
        source: rusqlite::Error,
    },
    /// The thread that owns the connection has ended.
    #[error("the journal {} is closed", path.display())]
    Closed {
        /// Path of the file.
        path: PathBuf,
    },
}

impl JournalError {
    /// Converts an error of SQLite into the variant with the matching remedy.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if let rusqlite::Error::FromSqlConversionFailure(_, _, reason) = &source {
            return Self::Damaged { path, reason: reason.to_string() };
        }
        if let rusqlite::Error::SqliteFailure(failure, reason) = &source
            && failure.extended_code == ffi::SQLITE_READONLY_DBMOVED
        {
            return Self::Lost { path, reason: reason.clone().unwrap_or_else(|| failure.to_string()) };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::NotADatabase) => Self::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, reason: source.to_string() },
            _ => Self::Database { path, source },
        }
    }
}
