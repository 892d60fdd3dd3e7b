//! Errors of the journal, such as a full disk or a damaged file.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use super::file_header::{APPLICATION_ID, VERSION};

/// Failure of the journal. Each variant contains the path of the file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The caller opened the journal for reading only, but the file does not exist.
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
        /// Error of the operating system.
        source: io::Error,
    },
    /// The folder of the file does not exist and cannot be created.
    #[error(
        "the journal {} cannot be created: its folder does not exist, and {} does not permit this user to create it \
         ({source}); set `daemon.journal` to a path in an existing folder, or HOME or XDG_STATE_HOME to a folder of \
         this user",
        path.display(), existing.display()
    )]
    NoFolder {
        /// Path of the file.
        path: PathBuf,
        /// Deepest folder of the path that exists.
        existing: PathBuf,
        /// Error of the operating system.
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
    /// An older version of transship wrote the file. The caller opened the journal for reading only, so transship
    /// cannot migrate the file.
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
    /// While the journal was open, another program removed or replaced the files of the journal. transship could not
    /// restore the files.
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
    #[error(
        "the journal {path} is damaged: {reason}; stop transship, then save the readable records by `{command}`, move \
         {path} away with its files -wal and -shm, and move {path}.recovered to {path}; without that file, the next \
         start creates an empty journal",
        path = path.display(), command = recovery_command(path)
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Column and its invalid value, or the error of the database.
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
    /// Returns true if every restart of the program fails with the same error until a person repairs or replaces the
    /// file.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Foreign { .. } | Self::Newer { .. })
    }

    /// Converts an error of creating the journal's folder.
    pub(super) fn from_folder(path: &Path, folder: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => {
                let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
                Self::NoFolder { path: path.to_owned(), existing: existing.to_owned(), source }
            }
        }
    }

    /// Converts an error of SQLite.
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

/// Returns the command that copies the readable records of a journal to a new file. The command uses `.clone`, because
/// `.recover` does not work in Debian's build of `sqlite3`. `.clone` does not copy the application id and the version,
/// so the command also sets these two numbers.
fn recovery_command(path: &Path) -> String {
    let path = path.display();
    format!(
        "sqlite3 {path} \".clone {path}.recovered\" \".open {path}.recovered\" \
         \"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_journal_names_recovery_and_fresh_start() {
        let path = PathBuf::from("/var/lib/transship/journal.db");
        let damaged = JournalError::Damaged { path, reason: "malformed".into() };
        assert_eq!(
            damaged.to_string(),
            format!(
                "the journal /var/lib/transship/journal.db is damaged: malformed; stop transship, then save the \
                 readable records by `sqlite3 /var/lib/transship/journal.db \
                 \".clone /var/lib/transship/journal.db.recovered\" \
                 \".open /var/lib/transship/journal.db.recovered\" \
                 \"PRAGMA application_id = 1414744144; PRAGMA user_version = {VERSION}\"`, move \
                 /var/lib/transship/journal.db away with its files -wal and -shm, and move \
                 /var/lib/transship/journal.db.recovered to /var/lib/transship/journal.db; without that file, the \
                 next start creates an empty journal"
            )
        );
        assert!(damaged.is_lasting());
    }

    #[test]
    fn how_to_page_has_the_recovery_command_of_this_version() {
        let page = include_str!("../../docs/how-to/back-up-the-journal.md").replace("\\\n     ", "");
        let command = recovery_command(Path::new("journal.db"));
        assert!(page.contains(&command), "the page lacks: {command}");
    }

    #[test]
    fn missing_home_is_named_as_cause_of_missing_journal() {
        let path = Path::new("/proc/nonexistent/.local/state/transship/journal.db");
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = JournalError::from_folder(path, path.parent().unwrap(), refused);
        assert_eq!(
            error.to_string(),
            "the journal /proc/nonexistent/.local/state/transship/journal.db cannot be created: its folder does not \
             exist, and /proc does not permit this user to create it (permission denied); set `daemon.journal` to a \
             path in an existing folder, or HOME or XDG_STATE_HOME to a folder of this user"
        );
        assert!(!error.is_lasting());
    }
}
