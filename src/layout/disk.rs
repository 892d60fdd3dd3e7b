//! The files of a layout: where they are, how they are read, and how they are replaced so that a crash at any
//! instant leaves either the old content or the new. Blocking calls; no task and no lock of a task is known here.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::fault::Fault;
use super::folder::Folder;
use super::index::{Index, IndexError, Named, Pointer};
use super::temporary::{self, Temporary};
use crate::oci::{Children, Descriptor, Digest, Digester, Manifest, MediaType, Tag};

/// The most bytes of a manifest that are read: as much as can be set for a registry.
const MAX_MANIFEST: u64 = 8 << 20;
/// The most bytes of `index.json` that are read: some two hundred thousand tags.
const MAX_INDEX: u64 = 64 << 20;
/// The age of an `index.json` from which on its stamp tells of each further change: some file systems count seconds.
const SETTLED: Duration = Duration::from_secs(2);
/// The most bytes of `oci-layout` that are read.
const MAX_VERSION: u64 = 64 << 10;
/// How the names of all files begin that are nobody else's.
pub(super) const OURS: &str = ".transship";
const INDEX: &str = "index.json";
const VERSION: &str = "oci-layout";
const BLOBS: &str = "blobs";

/// The folder of one layout.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Held while somebody looks into an `index.json`, for it may be large and there may be many readers. The one that was read
    /// last is kept: a run asks for each of its tags, and to read a large file for each would take hours.
    reading: Mutex<Option<Kept>>,
}

/// An `index.json`, and what the system said of the file when it was read.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    index: Index,
}

/// How many bytes of content are hashed at once.
const HASHED_AT_ONCE: usize = 64 << 10;

/// What tells a file from the one that was read before: device, inode, length, and the times of its last changes in
/// nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp([i128; 5]);

impl Stamp {
    /// The stamp of a file. `None` where the file was changed so lately that a further change could leave the same stamp.
    fn of(file: &File) -> Option<Self> {
        let found = file.metadata().ok()?;
        let age = found.modified().ok()?.elapsed().ok()?;
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let stamp = Self([
            found.dev().into(),
            found.ino().into(),
            found.len().into(),
            nanoseconds(found.mtime(), found.mtime_nsec()),
            nanoseconds(found.ctime(), found.ctime_nsec()),
        ]);
        (age >= SETTLED).then_some(stamp)
    }
}

/// An `index.json` that was read. Who has it must not ask for another one.
pub(super) struct Reading<'d> {
    index: Option<Index>,
    /// What it is kept under when this is dropped.
    stamp: Option<Stamp>,
    kept: MutexGuard<'d, Option<Kept>>,
}

impl Deref for Reading<'_> {
    type Target = Index;

    fn deref(&self) -> &Index {
        self.index.as_ref().expect("it is taken with the reading alone")
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let (Some(index), Some(stamp)) = (self.index.take(), self.stamp.take()) {
            *self.kept = Some(Kept { stamp, index });
        }
    }
}

impl Reading<'_> {
    /// To change it.
    pub(super) fn into_index(mut self) -> Index {
        self.index.take().expect("it is taken with the reading alone")
    }
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), reading: Mutex::default() }
    }

    fn index_path(&self) -> PathBuf {
        self.root.join(INDEX)
    }

    fn lock_name() -> String {
        format!("{OURS}.lock")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join(Self::lock_name())
    }

    /// The path of content, for messages.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.algorithm()).join(digest.hex())
    }

    /// The layout's folder, which is there.
    fn root(&self) -> Result<Folder, Fault> {
        Folder::root(&self.root)?.ok_or_else(|| self.no_layout())
    }

    /// The folder of content of this algorithm; `None` where there is none.
    fn blobs_of(&self, digest: &Digest) -> Result<Option<Folder>, Fault> {
        let Some(root) = Folder::root(&self.root)? else { return Ok(None) };
        let Some(blobs) = root.folder(BLOBS)? else { return Ok(None) };
        blobs.folder(digest.algorithm())
    }

    /// Opens some content and tells its length; `None` where there is none. What is not a regular file is refused
    /// unopened: a link could lead out of the layout, a pipe would wait for ever.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, Fault> {
        match self.blobs_of(digest)? {
            Some(folder) => folder.open_file(&digest.hex()),
            None => Ok(None),
        }
    }

    /// The length of some content; `None` where there is none.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        let Some(folder) = self.blobs_of(digest)? else { return Ok(None) };
        Ok(folder.regular(&digest.hex())?.map(|file| u64::try_from(file.st_size).unwrap_or_default()))
    }

    /// Opens a blob that has the length that its descriptor says.
    pub(super) fn open_whole(&self, blob: &Descriptor, offset: u64) -> Result<File, Fault> {
        let (file, actual) = self.open_blob(&blob.digest)?.ok_or_else(|| self.lost(&blob.digest))?;
        if actual != blob.size {
            return Err(Fault::Length { path: self.blob_path(&blob.digest), actual, expected: blob.size });
        }
        if offset > actual {
            return Err(Fault::Offset { offset, size: actual });
        }
        Ok(file)
    }

    /// The length of the content that an entry points at, where it is there with the length that the entry states, if it
    /// states one.
    pub(super) fn size_of(&self, at: &Pointer) -> Result<Option<u64>, Fault> {
        let actual = self.blob_size(&at.digest)?;
        Ok(actual.filter(|actual| at.size.is_none_or(|stated| stated == *actual)))
    }

    /// What a tag stands for; `None` where no entry has that name.
    pub(super) fn find<'i>(&self, index: &'i Index, tag: &Tag) -> Result<Option<&'i Pointer>, Fault> {
        match index.find(tag) {
            Named::Nothing => Ok(None),
            Named::One(at) => Ok(Some(at)),
            Named::Unknown => Err(Fault::NoDigest { path: self.index_path(), name: tag.to_string() }),
            Named::Several(images) => {
                let first = Box::new(images[0].0);
                let shown = images.iter().map(|(digest, distinction)| match distinction.as_str() {
                    "" => digest.to_string(),
                    distinction => format!("{digest} ({distinction})"),
                });
                let images = shown.collect::<Vec<_>>().join(" and ");
                Err(Fault::Ambiguous { path: self.index_path(), name: tag.to_string(), images, first })
            }
        }
    }

    /// The fault of content that should be there.
    pub(super) fn lost(&self, digest: &Digest) -> Fault {
        Fault::Lost { path: self.blob_path(digest) }
    }

    /// The fault of a folder that is not there or no layout.
    pub(super) fn no_layout(&self) -> Fault {
        Fault::NoLayout { path: self.root.clone() }
    }

    /// Reads a manifest and proves its digest; `None` where it is not there. `stated` is what an entry says of its type;
    /// without that the body tells, and where the body is silent, any entry of `index.json`.
    pub(super) fn read_manifest(&self, digest: &Digest, stated: Option<&MediaType>) -> Result<Option<Manifest>, Fault> {
        let Some(manifest) = self.read_manifest_alone(digest, stated)? else { return Ok(None) };
        if !manifest.media_type().is_manifest()
            && let Some(index) = self.read_index()?
        {
            let bytes = manifest.bytes().clone();
            return Ok(Some(Manifest::received(index.media_type_of(digest), bytes, Some(digest))));
        }
        Ok(Some(manifest))
    }

    /// The same for who has an `index.json` in hand already: only `stated` and the body tell the type.
    pub(super) fn read_manifest_alone(
        &self,
        digest: &Digest,
        stated: Option<&MediaType>,
    ) -> Result<Option<Manifest>, Fault> {
        let path = self.blob_path(digest);
        let Some((file, size)) = self.open_blob(digest)? else { return Ok(None) };
        let bytes: Bytes = read_up_to(file, size, MAX_MANIFEST, &path)?.into();
        let manifest = Manifest::received(stated, bytes, Some(digest));
        if manifest.digest() != *digest {
            return Err(Fault::Content { path, actual: manifest.digest() });
        }
        Ok(Some(manifest))
    }

    /// Reads `index.json`; `None` where there is none. Waits until nobody else has it in memory.
    pub(super) fn read_index(&self) -> Result<Option<Reading<'_>>, Fault> {
        let mut kept = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.take();
        let path = self.index_path();
        let Some(root) = Folder::root(&self.root)? else { return Ok(None) };
        let Some((file, size)) = root.open_file(INDEX)? else { return Ok(None) };
        check_version(&root)?;
        let stamp = Stamp::of(&file);
        if let Some(Kept { index, .. }) = last.filter(|last| Some(&last.stamp) == stamp.as_ref()) {
            return Ok(Some(Reading { index: Some(index), stamp, kept }));
        }
        let bytes = read_up_to(file, size, MAX_INDEX, &path)?;
        let index = Index::parse(bytes).map_err(|error| match error {
            IndexError::Json(error) => Fault::json(&path)(error),
            other => Fault::Shape { path, reason: other.to_string() },
        })?;
        Ok(Some(Reading { index: Some(index), stamp, kept }))
    }

    /// Replaces `index.json` as a whole. To be called under the lock, or the tag of another writer is lost.
    pub(super) fn write_index(&self, index: &Index) -> Result<(), Fault> {
        replace(&self.root()?, INDEX, &index.render())
    }

    /// Whether the layout has all that a writer needs.
    pub(super) fn is_complete(&self) -> Result<bool, Fault> {
        let Some(root) = Folder::root(&self.root)? else { return Ok(false) };
        let Some(blobs) = root.folder(BLOBS)? else { return Ok(false) };
        Ok(root.regular(INDEX)?.is_some() && root.regular(VERSION)?.is_some() && blobs.folder("sha256")?.is_some())
    }

    /// Makes the folder itself, and refuses one that holds something else than a layout.
    pub(super) fn create_root(&self) -> Result<(), Fault> {
        create_folder(&self.root)?;
        let root = self.root()?;
        // What a writer makes before the version file is the folder of blobs and files of its own; it may have been
        // killed then. All else comes later, so a version file that is still missing after the look was never there.
        let foreign = root.names()?.iter().any(|name| name != BLOBS && !name.to_string_lossy().starts_with(OURS));
        if foreign && root.regular(VERSION)?.is_none() {
            return Err(Fault::Foreign { path: self.root.clone() });
        }
        Ok(())
    }

    /// Makes what is missing inside the folder. To be called under the lock.
    pub(super) fn create_content(&self) -> Result<(), Fault> {
        let root = self.root()?;
        root.make_folder(BLOBS)?.make_folder("sha256")?;
        if root.regular(VERSION)?.is_none() {
            replace(&root, VERSION, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        if root.regular(INDEX)?.is_none() {
            self.write_index(&Index::empty())?;
        }
        check_version(&root)
    }

    /// Takes the writers' lock, if it is free. It is given back when the file is closed, by whatever end.
    pub(super) fn try_lock(&self) -> Result<Option<File>, Fault> {
        let file = self.root()?.open_or_create(&Self::lock_name())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Fault::io("lock", &self.lock_path())(error)),
        }
    }

    /// A new file for content that is not proven yet.
    pub(super) fn create_temporary(&self) -> Result<Temporary, Fault> {
        let path = || self.root.join(BLOBS);
        let gone = || Fault::io("open", &path())(ErrorKind::NotFound.into());
        Temporary::create(self.root()?.folder(BLOBS)?.ok_or_else(gone)?)
    }

    /// Moves proven content to its place, durably.
    pub(super) fn commit(&self, temporary: Temporary, digest: &Digest) -> Result<(), Fault> {
        let folder = self.root()?.make_folder(BLOBS)?.make_folder(digest.algorithm())?;
        temporary.commit(&folder, &digest.hex())
    }

    /// Writes a manifest under its digest, unless it is there already, whole. Durable in either case: the bytes that are
    /// there may be of a writer that has not yet synced the folder.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), Fault> {
        let digest = manifest.digest();
        let actual = manifest.bytes().len() as u64;
        if actual > MAX_MANIFEST {
            return Err(Fault::TooLarge { path: self.blob_path(&digest), actual, limit: MAX_MANIFEST });
        }
        if self.read_manifest_alone(&digest, None).is_ok_and(|found| found.is_some()) {
            return self.blobs_of(&digest)?.map_or(Ok(()), |folder| folder.sync());
        }
        let mut temporary = self.create_temporary()?;
        temporary.write(std::slice::from_ref(manifest.bytes()))?;
        self.commit(temporary, &digest)
    }

    /// Removes a manifest. Content that is no manifest is left alone: it belongs to others.
    pub(super) fn remove_manifest(&self, digest: &Digest, stated: Option<&MediaType>) -> Result<(), Fault> {
        let is_manifest = match self.read_manifest_alone(digest, stated) {
            Ok(found) => found.is_some_and(|manifest| manifest.view().is_ok()),
            Err(Fault::TooLarge { .. }) => false,
            Err(fault) => return Err(fault),
        };
        if is_manifest && let Some(folder) = self.blobs_of(digest)? {
            folder.remove(&digest.hex())?;
            folder.sync()?;
        }
        Ok(())
    }

    /// Proves that what a manifest points at is there, by the length that it states, and where that is another one by the digest: some
    /// manifests state a wrong length. Foreign layers live elsewhere.
    pub(super) fn check_children(&self, manifest: &Manifest) -> Result<(), Fault> {
        let view = manifest.view()?;
        let children = match &view.children {
            Children::Blobs { .. } => view.blobs(),
            Children::Manifests(manifests) => manifests.iter().collect(),
        };
        for child in children.into_iter().filter(|child| !child.is_foreign()) {
            let missing =
                |problem| Fault::Missing { digest: child.digest, path: self.blob_path(&child.digest), problem };
            // The size of a manifest is not needed: an index may state a wrong one, or none.
            let has_length = view.blobs().iter().any(|blob| blob.digest == child.digest);
            match self.blob_size(&child.digest)? {
                None => return Err(missing("does not exist")),
                Some(size) if has_length && size != child.size && !self.is_intact(&child.digest)? => {
                    return Err(missing("has another length"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether some content hashes to its digest. It is read whole.
    fn is_intact(&self, digest: &Digest) -> Result<bool, Fault> {
        let Some((mut file, _)) = self.open_blob(digest)? else { return Ok(false) };
        let (mut digester, mut piece) = (Digester::like(digest), vec![0; HASHED_AT_ONCE]);
        loop {
            match file.read(&mut piece).map_err(Fault::io("read", &self.blob_path(digest)))? {
                0 => return Ok(digester.finish() == *digest),
                read => digester.update(piece.get(..read).unwrap_or_default()),
            }
        }
    }

    /// Removes the temporary files of writers that are dead, and says how many.
    pub(super) fn remove_leftovers(&self) -> Result<usize, Fault> {
        match self.root()?.folder(BLOBS)? {
            Some(folder) => temporary::remove_leftovers(&folder),
            None => Ok(0),
        }
    }
}

/// A layout without the version file is read as `skopeo` reads it; one of another version is not.
fn check_version(root: &Folder) -> Result<(), Fault> {
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(rename = "imageLayoutVersion")]
        version: Option<String>,
    }
    let path = root.path().join(VERSION);
    let Some((file, size)) = root.open_file(VERSION)? else { return Ok(()) };
    let bytes = read_up_to(file, size, MAX_VERSION, &path)?;
    let body: Version = serde_json::from_slice(&bytes).map_err(Fault::json(&path))?;
    match body.version.as_deref() {
        Some("1.0.0") => Ok(()),
        version => Err(Fault::Version { path, version: version.unwrap_or_default().to_owned() }),
    }
}

/// Writes a file of the layout's folder: a new file, synced, renamed over the old one. To be called under the
/// lock: the new file has one name for all writers, so what a killed one left is overwritten by the next.
fn replace(root: &Folder, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let new = format!("{OURS}.new");
    let path = root.path().join(&new);
    root.remove(&new)?;
    let gone = || Fault::io("create", &path)(ErrorKind::AlreadyExists.into());
    let mut file = root.create_new(&new)?.ok_or_else(gone)?;
    if let Some(old) = root.open_file(name).ok().flatten().and_then(|(old, _)| old.metadata().ok()) {
        file.set_permissions(old.permissions()).map_err(Fault::io("set the mode of", &path))?;
    }
    file.write_all(bytes).map_err(Fault::io("write", &path))?;
    file.sync_all().map_err(Fault::io("sync", &path))?;
    root.rename(&new, root, name)?;
    root.sync()
}

/// Reads a file of `size` bytes whole, and never more than `limit` even while it grows.
fn read_up_to(file: File, size: u64, limit: u64, path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    if size <= limit {
        bytes.reserve_exact(usize::try_from(size + 1).unwrap_or_default());
        file.take(limit + 1).read_to_end(&mut bytes).map_err(Fault::io("read", path))?;
    }
    match size.max(bytes.len() as u64) {
        actual if actual > limit => Err(Fault::TooLarge { path: path.to_owned(), actual, limit }),
        _ => Ok(bytes),
    }
}

/// Makes the layout's own folder and those above it, each durable before the next. Links are followed: the operator names them.
fn create_folder(path: &Path) -> Result<(), Fault> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    if above != Path::new(".") {
        create_folder(above)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Fault::io("create", path)(error)),
        _ => {}
    }
    sync_folder(above)
}

/// Makes renames in a folder durable.
fn sync_folder(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Fault::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_kept_once_its_file_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        disk.create_content().unwrap();
        let is_kept = || {
            drop(disk.read_index().unwrap().unwrap());
            disk.reading.lock().unwrap().is_some()
        };
        assert!(!is_kept(), "a change within the same instant would go unseen");
        let long_ago = std::time::SystemTime::now() - 2 * SETTLED;
        File::options().write(true).open(folder.path().join(INDEX)).unwrap().set_modified(long_ago).unwrap();
        assert!(is_kept());
        drop(disk.read_index().unwrap().unwrap().into_index());
        assert!(disk.reading.lock().unwrap().is_none(), "a writer changes what it took");
    }
}
