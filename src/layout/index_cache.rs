//! Cache of a parsed `index.json`. The cached index is valid until the stamp of the file changes.

use std::fs::{File, Metadata};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::index::Index;

/// Minimum age of a cached `index.json`. Some file systems store times in whole seconds, so two changes within one
/// second can leave the same stamp.
pub(super) const MIN_CACHED_AGE: Duration = Duration::from_secs(2);
/// Cache of the last parsed `index.json`. A caller that uses the index holds the lock of the cache, so only one parsed
/// copy is in memory. Without the cache, a run would parse the file again for each tag.
pub(super) type IndexCache = Mutex<Option<CachedIndex>>;

/// Parsed `index.json` with the stamp of its file.
#[derive(Debug)]
pub(super) struct CachedIndex {
    pub(super) stamp: FileStamp,
    pub(super) index: Index,
}

/// Stamp of a file, which differs between two states of the file: device, inode, length, `mtime` and `ctime`. The times
/// are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStamp([i128; 5]);

impl FileStamp {
    /// Returns the stamp of a file. Returns `None` if the last change of the file is younger than two seconds
    /// ([`MIN_CACHED_AGE`]).
    pub(super) fn from_file(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let age = metadata.modified().ok()?.elapsed().ok()?;
        (age >= MIN_CACHED_AGE).then(|| Self::from_metadata(&metadata))
    }

    /// Returns true if the content is the same in both states of the file. Ignores `ctime`, because a change of the
    /// mode or of the name changes only `ctime`.
    pub(super) fn has_same_content(&self, other: &Self) -> bool {
        self.0[..4] == other.0[..4]
    }

    /// Returns the stamp of a file with this metadata. Does not check the age of the file.
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

/// Parsed `index.json`, with the lock of the cache. While a caller has a guard, another read of `index.json` by the
/// same caller would be a deadlock.
pub(super) struct IndexGuard<'d> {
    index: Option<Index>,
    /// Stamp of the file. If the stamp is `None`, dropping the guard does not cache the index.
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
    /// Creates the guard. `cached` is the lock of the cache, which the caller took before reading the file.
    pub(super) fn new(index: Index, stamp: Option<FileStamp>, cached: MutexGuard<'d, Option<CachedIndex>>) -> Self {
        Self { index: Some(index), stamp, cached }
    }

    /// Returns the index for changes. The cache is empty afterwards.
    pub(super) fn into_index(mut self) -> Index {
        self.index.take().expect("only into_index takes the index, and it consumes the guard")
    }
}
