//! Files of content that is not proven yet, and what becomes of those whose writer was killed.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::disk::OURS;
use super::fault::Fault;
use super::folder::Folder;

/// A file being written, locked by its writer, and removed unless it is committed.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: Folder,
    name: String,
    file: File,
    committed: bool,
}

impl Temporary {
    /// A new file in `folder`.
    pub(super) fn create(folder: Folder) -> Result<Self, Fault> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{OURS}-{}-{number}", std::process::id());
            let Some(file) = folder.create_new(&name)? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                // Someone who cleans up was faster than the lock and is removing the file.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    _ = folder.remove(&name);
                    return Err(Fault::io("lock", &folder.path().join(name))(error));
                }
            }
            // They may also have locked, removed and closed it before the lock here.
            if is_at(&file, &folder, &name) {
                return Ok(Self { folder, name, file, committed: false });
            }
        }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        for piece in pieces {
            self.file.write_all(piece).map_err(|error| self.failed("write", error))?;
        }
        Ok(())
    }

    /// Moves the file to its place, durably.
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
            // What cannot be removed now is found by the next writer that cleans up.
            _ = self.folder.remove(&self.name);
        }
    }
}

fn is_at(file: &File, folder: &Folder, name: &str) -> bool {
    match (folder.regular(name), file.metadata()) {
        (Ok(Some(there)), Ok(open)) => (there.st_dev, there.st_ino) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// Removes the temporary files of writers that are dead, and says how many. A living writer holds a lock on its
/// file; the system gives it back at the writer's end, so whoever gets that lock owns a file that nobody writes.
pub(super) fn remove_leftovers(folder: &Folder) -> Result<usize, Fault> {
    let mut removed = 0;
    for name in folder.names()? {
        let Some(name) = name.to_str().filter(|name| name.starts_with(OURS)) else { continue };
        // Another process may have removed it, or be about to rename it: then it is not ours to judge. Nor is what is no file.
        if let Ok(Some(open)) = folder.open_to_write(name)
            && open.try_lock().is_ok()
            && folder.remove(name).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}
