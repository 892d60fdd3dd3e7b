//! Errors of the journal, by what an operator can do about them.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Failure of the journal. Each variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file does not exist, and it was not to be created.
    #[error(
        "there is no journal at {}: `daemon.journal` of sync.yaml says where it is, the first run creates it",
        path.display()
    )]
    Missing {
        /// The path that was opened.
        path: PathBuf,
    },
    /// The file or its folder cannot be opened or created.
    #[error("cannot open the journal {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A newer program wrote the file.
    #[error(
        "the journal {} is of version {found}, this program knows versions up to {known}: use a newer transship",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// An older program wrote the file, which was opened for reading only.
    #[error(
        "the journal {} is of version {found} and is brought to version {known} by the next `transship run` or `once`",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is needed.
        known: u32,
    },
    /// The file is not a journal.
    #[error("{} is not a journal of transship: choose another path for `daemon.journal`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The disk has no room for another row.
    #[error("the disk is full: the journal {} cannot be written", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file, its folder or its file system is read-only.
    #[error("the journal {} is read-only: its file and its folder must be writable", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file was removed or replaced while it was open, and could not be written again.
    #[error(
        "the journal {} was removed or replaced while it was open, and cannot be written again: {reason}",
        path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// The reason why the file cannot be written again.
        reason: String,
    },
    /// Another process locked the journal for too long.
    #[error("the journal {} is locked by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A row holds a value that this program does not write.
    #[error("the journal {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The value that was found.
        reason: String,
    },
    /// Any other error of the database.
    #[error("the journal {}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The database's error.
        source: rusqlite::Error,
    },
    /// The thread that owns the connection has ended.
    #[error("the journal {} is closed", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

impl JournalError {
    /// Classifies the database's error by what an operator can do about it.
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
