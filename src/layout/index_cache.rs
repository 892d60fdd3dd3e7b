//! Cache of a parsed `index.json`. The cache is valid as long as the file has the same stamp.

use std::fs::{File, Metadata};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::index::Index;

/// Minimum age of an `index.json` that is cached. Some file systems store times in whole seconds, so a change of a
/// younger file may leave the same stamp.
pub(super) const MIN_CACHED_AGE: Duration = Duration::from_secs(2);
/// Cache of the `index.json` that was read last. The cache is locked while a caller uses an index: the file may be
/// large, so only one parsed copy may be in memory at a time. The cache is necessary: a run resolves each of its tags,
/// and parsing a large file for each tag would take hours.
pub(super) type IndexCache = Mutex<Option<CachedIndex>>;

/// Parsed `index.json` with the stamp of its file.
#[derive(Debug)]
pub(super) struct CachedIndex {
    pub(super) stamp: FileStamp,
    pub(super) index: Index,
}

/// Identity of one state of a file: device, inode, length, and the times of its last changes in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStamp([i128; 5]);

impl FileStamp {
    /// Returns the stamp of a file. `None` if the file changed so recently that a further change could leave the same
    /// stamp.
    pub(super) fn from_file(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let age = metadata.modified().ok()?.elapsed().ok()?;
        (age >= MIN_CACHED_AGE).then(|| Self::from_metadata(&metadata))
    }

    /// Returns true if the two states of a file have the same content. A change of the mode or of the name, which
    /// changes only the last of the values, keeps the content.
    pub(super) fn has_same_content(&self, other: &Self) -> bool {
        self.0[..4] == other.0[..4]
    }

    /// Returns the stamp of a file with this metadata, however recently the file changed.
    pub(super) fn from_metadata(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self([
            metadata.dev().into(),
            metadata.ino().into(),
            metadata.len().into(),
            nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        ])
    }
}

/// Guard of a parsed `index.json`. A caller that has a guard must not read an `index.json` again: that would be a
/// deadlock.
pub(super) struct IndexGuard<'d> {
    index: Option<Index>,
    /// Stamp of the index for the cache. If it is `Some`, dropping the guard caches the index.
    stamp: Option<FileStamp>,
    cached: MutexGuard<'d, Option<CachedIndex>>,
}

impl Deref for IndexGuard<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        self.index.as_ref().expect("only into_index takes the index, and it consumes the guard")
    }
}

impl Drop for IndexGuard<'_> {
    fn drop(&mut self) {
        if let (Some(index), Some(stamp)) = (self.index.take(), self.stamp.take()) {
            *self.cached = Some(CachedIndex { stamp, index });
        }
    }
}

impl<'d> IndexGuard<'d> {
    /// Creates the guard of an index that was read under the lock of the cache.
    pub(super) fn new(index: Index, stamp: Option<FileStamp>, cached: MutexGuard<'d, Option<CachedIndex>>) -> Self {
        Self { index: Some(index), stamp, cached }
    }

    /// Takes the index out of the cache, for a caller that changes it.
    pub(super) fn into_index(mut self) -> Index {
        self.index.take().expect("only into_index takes the index, and it consumes the guard")
    }
}
