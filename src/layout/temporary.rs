//! Temporary files for unverified content, and the removal of temporary files that killed writers left.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::fault::Fault;
use super::folder::{FILE_PREFIX, Folder};

/// Temporary file. The writer holds a lock on the file. Dropping the value without a commit removes the file.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: Folder,
    name: String,
    file: File,
    committed: bool,
}

impl Temporary {
    /// Creates a file in `folder`.
    pub(super) fn create(folder: Folder) -> Result<Self, Fault> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{FILE_PREFIX}-{}-{number}", std::process::id());
            let Some(file) = folder.create_new(&name)? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                // A process that removes leftovers has locked this file first, and is removing the file.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    _ = folder.remove(&name);
                    return Err(Fault::io("lock", &folder.path().join(name))(error));
                }
            }
            // A process that removes leftovers can also have removed the file before this process locked the file.
            if folder.names_file(&name, &file) {
                return Ok(Self { folder, name, file, committed: false });
            }
        }
    }

    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        for piece in pieces {
            self.file.write_all(piece).map_err(|error| self.failed("write", error))?;
        }
        Ok(())
    }

    /// Renames the file to its final name, durably.
    pub(super) fn commit(mut self, to: &Folder, name: &str) -> Result<(), Fault> {
        self.file.sync_all().map_err(|error| self.failed("sync", error))?;
        self.folder.rename(&self.name, to, name)?;
        self.committed = true;
        to.sync()
    }

    fn failed(&self, doing: &'static str, error: std::io::Error) -> Fault {
        Fault::io(doing, &self.folder.path().join(&self.name))(error)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.committed {
            // If the file cannot be removed now, `remove_leftovers` of a later writer removes the file.
            _ = self.folder.remove(&self.name);
        }
    }
}

/// Removes the temporary files of killed writers. Returns the number of removed files. A living writer holds a lock on
/// its file, and the operating system releases the lock when the writer ends. So if this function gets the lock of a
/// file, no writer uses the file.
pub(super) fn remove_leftovers(folder: &Folder) -> Result<usize, Fault> {
    let mut removed = 0;
    for name in folder.names()? {
        let Some(name) = name.to_str().filter(|name| name.starts_with(FILE_PREFIX)) else { continue };
        // Skip a file that cannot be opened, locked or removed, such as the locked file of a living writer.
        if let Ok(Some(open)) = folder.open_to_write(name)
            && open.try_lock().is_ok()
            && folder.remove(name).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}
