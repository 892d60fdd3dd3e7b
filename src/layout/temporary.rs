//! Files of content that is not proven yet, and what becomes of those whose writer was killed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::disk::{OURS, identity, sync_folder};
use super::fault::Fault;

/// A file being written, locked by its writer, and removed unless it is committed.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    file: File,
    committed: bool,
}

impl Temporary {
    /// A new file in `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self, Fault> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{OURS}-{}-{number}", std::process::id()));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Fault::io("create", &path)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                // Someone who cleans up was faster than the lock and is removing the file.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    _ = fs::remove_file(&path);
                    return Err(Fault::io("lock", &path)(error));
                }
            }
            // They may also have locked, removed and closed it before the lock here.
            if is_at(&file, &path) {
                return Ok(Self { path, file, committed: false });
            }
        }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        for piece in pieces {
            self.file.write_all(piece).map_err(Fault::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Moves the file to its place, durably.
    pub(super) fn commit(mut self, to: &Path) -> Result<(), Fault> {
        self.file.sync_all().map_err(Fault::io("sync", &self.path))?;
        fs::rename(&self.path, to).map_err(Fault::io("replace", to))?;
        self.committed = true;
        to.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is found by the next writer that cleans up.
            _ = fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => identity(&there) == identity(&open),
        _ => false,
    }
}

/// Removes the temporary files of writers that are dead, and says how many. A living writer holds a lock on its
/// file; the system gives it back at the writer's end, so whoever gets that lock owns a file that nobody writes.
pub(super) fn remove_leftovers(folder: &Path) -> Result<usize, Fault> {
    let mut removed = 0;
    for file in fs::read_dir(folder).map_err(Fault::io("list", folder))? {
        let file = file.map_err(Fault::io("list", folder))?;
        if !file.file_name().to_string_lossy().starts_with(OURS) || !file.file_type().is_ok_and(|it| it.is_file()) {
            continue;
        }
        // Another process may have removed it, or be about to rename it: then it is not ours to judge.
        if let Ok(open) = OpenOptions::new().write(true).open(file.path())
            && open.try_lock().is_ok()
            && fs::remove_file(file.path()).is_ok()
        {
            removed += 1;
        }
    }
    Ok(removed)
}
