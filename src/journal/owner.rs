//! Whether the process that began a run still lives: each holds a file beside the journal locked, and the system
//! lets go of the lock however the process ends. A process id alone says nothing: it may be another's by now.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The locked file of this process (strictly: of one opened journal). Let go and removed when dropped.
#[derive(Debug)]
pub(super) struct Owner {
    path: PathBuf,
    name: String,
    locked: File,
}

impl Owner {
    /// Takes a new lock beside `journal`. The journal must learn of it only afterwards.
    pub(super) fn beside(journal: &Path) -> io::Result<Self> {
        loop {
            // std's randomness: enough that two handles of one process do not meet, and a meeting is seen below.
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

    /// Whether others find it.
    pub(super) fn is_in_place(&self) -> bool {
        let own = self.locked.metadata().map(|own| (own.dev(), own.ino()));
        fs::metadata(&self.path).is_ok_and(|there| own.is_ok_and(|own| own == (there.dev(), there.ino())))
    }

    /// The file's name, by which others find it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // One that stays is found unlocked and removed by the next process. Another file of this name is not ours to remove.
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_name(journal: &Path) -> String {
    journal.file_name().map_or_else(|| "journal".into(), |name| name.to_string_lossy().into_owned())
}

/// Whether the holder of the lock `name` beside `journal` lives. What cannot be told counts as alive: two runs of one
/// entry are worse than one that waits.
pub(super) fn lives(journal: &Path, name: &str) -> bool {
    match crate::regular_file::open(&journal.with_file_name(name)) {
        // Shared, so that two who look at one time do not take each other for the holder.
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes the lock of a holder that was found dead.
pub(super) fn bury(journal: &Path, name: &str) {
    let _ = fs::remove_file(journal.with_file_name(name));
}
