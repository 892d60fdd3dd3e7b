//! Lock of a process that owns runs: it shows if the process still lives. Each process keeps a locked file beside the
//! journal. The system releases the lock in every case when the process ends. A process id alone does not prove that
//! the process lives: another process may have the same id by now.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Locked file of this process (strictly: of one opened journal). The lock is released and the file removed when the
/// value is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    path: PathBuf,
    name: String,
    locked: File,
}

impl Owner {
    /// Takes a new lock beside `journal`. The journal must record it only afterwards.
    pub(super) fn beside(journal: &Path) -> io::Result<Self> {
        loop {
            // std's randomness suffices for two handles of one process to get different names. A collision is detected
            // below.
            let random = std::hash::RandomState::new().build_hasher().finish();
            let name = format!("{}.{}-{random:016x}.lock", file_name(journal), std::process::id());
            let path = journal.with_file_name(&name);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    file.lock()?;
                    return Ok(Self { path, name, locked: file });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns true if other processes can find the lock.
    pub(super) fn is_in_place(&self) -> bool {
        let own = self.locked.metadata().map(|own| (own.dev(), own.ino()));
        fs::metadata(&self.path).is_ok_and(|there| own.is_ok_and(|own| own == (there.dev(), there.ino())))
    }

    /// Returns the file's name, by which other processes find the lock.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A file that remains is found unlocked and removed by the next process. Another file of this name must not be
        // removed here.
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_name(journal: &Path) -> String {
    journal.file_name().map_or_else(|| "journal".into(), |name| name.to_string_lossy().into_owned())
}

/// Returns true if the holder of the lock `name` beside `journal` lives. If that cannot be determined, the holder
/// counts as alive: two concurrent runs of one entry are worse than a run that waits.
pub(super) fn lives(journal: &Path, name: &str) -> bool {
    match crate::regular_file::open(&journal.with_file_name(name)) {
        // The lock is shared, so that two processes that check at the same time do not mistake each other for the
        // holder.
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes the lock of a holder that was found dead.
pub(super) fn bury(journal: &Path, name: &str) {
    let _ = fs::remove_file(journal.with_file_name(name));
}
