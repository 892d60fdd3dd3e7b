//! What can go wrong with the journal, by what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// A failure of the journal. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no such file and it was not to be created.
    #[error("there is no journal at {}: `daemon.journal` of sync.yaml says where it is, the first run creates it", path.display())]
    Missing {
        /// Where it was looked for.
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
    /// A newer program wrote it.
    #[error("the journal {} is of version {found}, this program knows versions up to {known}: use a newer transship", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is known here.
        known: u32,
    },
    /// An older program wrote it and it was opened for reading only.
    #[error("the journal {} is of version {found} and is brought to version {known} by the next `transship run` or `once`", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is needed.
        known: u32,
    },
    /// The file is something else.
    #[error("{} is not a journal of transship: choose another path for `daemon.journal`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// There is no room for another row.
    #[error("the disk is full: the journal {} cannot be written", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file, its folder or its file system cannot be written.
    #[error("the journal {} is read-only: its file and its folder must be writable", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file was removed or replaced while it was open, and could not be written anew.
    #[error("the journal {} was removed or replaced while it was open, and cannot be written anew: {reason}", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// Why it cannot.
        reason: String,
    },
    /// Another process held the journal for too long.
    #[error("the journal {} is locked by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A row holds what nobody here writes.
    #[error("the journal {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Anything else that the database says.
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
    /// Sorts the database's error by what can be done about it.
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
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
