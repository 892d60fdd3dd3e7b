//! Lock file of a process, beside the journal. A process holds the lock until the process ends. So other processes can
//! check whether the process is alive. A process id is not sufficient for this check, because the system can give the
//! id of an ended process to a new process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Locked file of one open journal of this process. Dropping the value releases the lock and removes the file.
#[derive(Debug)]
pub(super) struct ProcessLock {
    path: PathBuf,
    name: String,
    locked: File,
}

impl ProcessLock {
    /// Creates and locks a new file beside `journal`. The caller must record the name of the file in the journal after
    /// this call, not before, because other processes treat a recorded name without a file as a released lock.
    pub(super) fn beside(journal: &Path) -> io::Result<Self> {
        loop {
            // The random number gives two handles of one process different names. A collision is detected below.
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

    /// Returns true if the locked file is still at its path.
    pub(super) fn is_in_place(&self) -> bool {
        let own = self.locked.metadata().map(|own| (own.dev(), own.ino()));
        fs::metadata(&self.path).is_ok_and(|found| own.is_ok_and(|own| own == (found.dev(), found.ino())))
    }

    /// Returns the name of the file, which the journal records for other processes.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // If another process has created a file of this name, the file must stay. If the removal fails, the next
        // process finds the unlocked file and removes the file.
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_name(journal: &Path) -> String {
    journal.file_name().map_or_else(|| "journal".into(), |name| name.to_string_lossy().into_owned())
}

/// Returns true if the process that locked the file `name` beside `journal` is alive. If the state of the lock cannot
/// be read, returns true, because two concurrent runs of one entry are worse than a delayed run.
pub(super) fn is_alive(journal: &Path, name: &str) -> bool {
    match crate::regular_file::open(&journal.with_file_name(name)) {
        // With a shared lock, two processes can do this check at the same time.
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes the lock file of a process that has ended.
pub(super) fn remove(journal: &Path, name: &str) {
    let _ = fs::remove_file(journal.with_file_name(name));
}
