//! Files of a layout, in a folder or in an archive: their paths, bounded reads, and writes that are atomic under a
//! crash: the file then has either the old or the new content. All calls block; this module uses no tasks and no async
//! locks.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::archive::Archive;
use super::content::Content;
use super::fault::Fault;
use super::folder::{FILE_PREFIX, Folder, create_folder, replace};
use super::index::{Index, IndexError, Named, Pointer};
use super::index_cache::{CachedIndex, FileStamp, IndexCache, IndexGuard};
use super::new_content::NewContent;
use super::temporary::{self, Temporary};
use super::version::{VERSION, check_version, open_version};
use crate::oci::{Children, Descriptor, Digest, Digester, Manifest, MediaType, RepositoryName, Tag};

/// Maximum size of a manifest, in bytes: the maximum that can be configured for a registry.
const MAX_MANIFEST: u64 = 8 << 20;
/// Maximum size of `index.json`, in bytes: enough for about 200,000 tags.
const MAX_INDEX: u64 = 64 << 20;
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs";

/// Files of one layout.
#[derive(Debug)]
pub(super) struct Disk {
    /// Folder of the layout, or the path of the archive.
    root: PathBuf,
    /// `None` for a layout in a folder.
    archive: Option<Archive>,
    /// `None` for a layout outside a tree of layouts.
    tree: Option<TreePlace>,
    cache: IndexCache,
}

/// Place of a layout in a tree of layouts. The folder of the layout may also contain folders of other layouts.
#[derive(Debug)]
struct TreePlace {
    /// Folder of the tree. The operator chose its path, so links in this path are followed.
    root: PathBuf,
    /// Repository of the layout. No part of its path may be a link.
    name: RepositoryName,
}

/// Lock of the writers. An archive has its lock as long as it has unpublished files.
pub(super) type WriterLock = Option<File>;

/// Number of bytes of content that are hashed at a time.
const HASHED_AT_ONCE: usize = 64 << 10;

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), archive: None, tree: None, cache: IndexCache::default() }
    }

    /// Creates the files of a repository's layout in a tree of layouts.
    pub(super) fn in_tree(root: &Path, name: &RepositoryName) -> Self {
        let tree = TreePlace { root: root.to_owned(), name: name.clone() };
        Self { tree: Some(tree), ..Self::new(&root.join(name.as_str())) }
    }

    /// Creates the files of the archive at a path.
    pub(super) fn in_archive(path: &Path) -> Self {
        Self { archive: Some(Archive::new(path)), ..Self::new(path) }
    }

    /// Publishes the files that were written to an archive. The files of a folder are published at once. The caller
    /// must be the only writer of this process.
    pub(super) fn publish(&self) -> Result<(), Fault> {
        self.archive.as_ref().map_or(Ok(()), Archive::publish)
    }

    /// Removes the files that were written to an archive and are not published.
    pub(super) fn discard(&self) {
        self.archive.iter().for_each(Archive::discard);
    }

    /// Returns true if an archive has files that are not published.
    pub(super) fn is_staging(&self) -> bool {
        self.archive.as_ref().is_some_and(Archive::is_writing)
    }

    fn index_path(&self) -> PathBuf {
        self.root.join(INDEX)
    }

    fn lock_name() -> String {
        format!("{FILE_PREFIX}.lock")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        match &self.archive {
            Some(archive) => archive.new_path(),
            None => self.root.join(Self::lock_name()),
        }
    }

    /// Returns the path of content, for messages.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(member_name(digest))
    }

    /// Opens the layout's folder. A missing folder is a fault.
    fn root(&self) -> Result<Folder, Fault> {
        self.find_root()?.ok_or_else(|| self.missing_layout_fault())
    }

    /// Opens the layout's folder; `None` if it does not exist. Follows no link below the folder of a tree.
    fn find_root(&self) -> Result<Option<Folder>, Fault> {
        let Some(TreePlace { root, name }) = &self.tree else { return Folder::root(&self.root) };
        let mut folder = Folder::root(root)?;
        for part in name.as_str().split('/') {
            let Some(outer) = folder else { return Ok(None) };
            folder = outer.folder(part)?;
        }
        Ok(folder)
    }

    /// Creates the layout's folder, if it does not exist. Follows no link below the folder of a tree.
    fn make_root(&self) -> Result<Folder, Fault> {
        let Some(TreePlace { root, name }) = &self.tree else {
            create_folder(&self.root)?;
            return self.root();
        };
        create_folder(root)?;
        let mut folder = Folder::root(root)?.ok_or_else(|| self.missing_layout_fault())?;
        for part in name.as_str().split('/') {
            folder = folder.make_folder(part)?;
        }
        Ok(folder)
    }

    /// Opens the folder of content with this digest's algorithm; `None` if it does not exist.
    fn open_blob_folder(&self, digest: &Digest) -> Result<Option<Folder>, Fault> {
        let Some(root) = self.find_root()? else { return Ok(None) };
        let Some(blobs) = root.folder(BLOBS)? else { return Ok(None) };
        blobs.folder(digest.algorithm())
    }

    /// Opens content; `None` if it does not exist. Anything but a regular file is refused without being opened: a link
    /// could lead out of the layout, and a pipe would block for ever.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        if let Some(archive) = &self.archive {
            return archive.open(&member_name(digest));
        }
        let Some(folder) = self.open_blob_folder(digest)? else { return Ok(None) };
        Ok(folder.open_file(&digest.hex())?.map(|(file, length)| Content::from_file(file, length)))
    }

    /// Returns the length of content; `None` if it does not exist.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        if let Some(archive) = &self.archive {
            return Ok(archive.open(&member_name(digest))?.map(|content| content.length()));
        }
        let Some(folder) = self.open_blob_folder(digest)? else { return Ok(None) };
        Ok(folder.regular(&digest.hex())?.map(|file| u64::try_from(file.st_size).unwrap_or_default()))
    }

    /// Opens a blob whose file has the length that its descriptor states.
    pub(super) fn open_whole(&self, blob: &Descriptor, offset: u64) -> Result<Content, Fault> {
        let content = self.open_blob(&blob.digest)?.ok_or_else(|| self.missing_content_fault(&blob.digest))?;
        let actual = content.length();
        if actual != blob.size {
            return Err(Fault::Length { path: self.blob_path(&blob.digest), actual, expected: blob.size });
        }
        if offset > actual {
            return Err(Fault::Offset { offset, size: actual });
        }
        Ok(content)
    }

    /// Returns the length of the content that an entry points at; `None` if the content is missing or the entry states
    /// another length.
    pub(super) fn stored_size(&self, pointer: &Pointer) -> Result<Option<u64>, Fault> {
        let actual = self.blob_size(&pointer.digest)?;
        Ok(actual.filter(|actual| pointer.size.is_none_or(|stated| stated == *actual)))
    }

    /// Returns the content that a tag points at; `None` if no entry has that name.
    pub(super) fn find<'i>(&self, index: &'i Index, tag: &Tag) -> Result<Option<&'i Pointer>, Fault> {
        match index.find(tag) {
            Named::Nothing => Ok(None),
            Named::One(pointer) => Ok(Some(pointer)),
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

    /// Returns the fault of content that should exist and does not.
    pub(super) fn missing_content_fault(&self, digest: &Digest) -> Fault {
        Fault::Lost { path: self.blob_path(digest) }
    }

    /// Returns the fault of a folder that is missing or is not a layout.
    pub(super) fn missing_layout_fault(&self) -> Fault {
        let path = self.root.clone();
        if self.archive.is_some() { Fault::NoArchive { path } } else { Fault::NoLayout { path } }
    }

    /// Reads a manifest and verifies its digest; `None` if it does not exist. [`Manifest::received`] determines the
    /// media type from the body and from `stated`, the type in an entry. If neither is the type of a manifest, the type
    /// in any entry of `index.json` for this digest is used instead of `stated`.
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

    /// Reads a manifest without `index.json`, for callers that have an `IndexGuard`: only `stated` and the body
    /// determine the media type.
    pub(super) fn read_manifest_alone(
        &self,
        digest: &Digest,
        stated: Option<&MediaType>,
    ) -> Result<Option<Manifest>, Fault> {
        let path = self.blob_path(digest);
        let Some(content) = self.open_blob(digest)? else { return Ok(None) };
        let bytes: Bytes = content.read_up_to(MAX_MANIFEST, &path)?.into();
        let manifest = Manifest::received(stated, bytes, Some(digest));
        if manifest.digest() != *digest {
            return Err(Fault::Content { path, actual: manifest.digest() });
        }
        Ok(Some(manifest))
    }

    /// Reads `index.json`; `None` if it does not exist. Waits until no other caller uses the parsed index.
    pub(super) fn read_index(&self) -> Result<Option<IndexGuard<'_>>, Fault> {
        let mut cached = self.cache.lock();
        let last = cached.take();
        let path = self.index_path();
        let Some((content, stamp)) = self.open_index()? else { return Ok(None) };
        if let Some(CachedIndex { index, .. }) = last.filter(|last| Some(&last.stamp) == stamp.as_ref()) {
            return Ok(Some(IndexGuard::new(index, stamp, cached)));
        }
        let bytes = content.read_up_to(MAX_INDEX, &path)?;
        let index = Index::parse(bytes).map_err(|error| match error {
            IndexError::Json(error) => Fault::json(&path)(error),
            other => Fault::Shape { path, reason: other.to_string() },
        })?;
        Ok(Some(IndexGuard::new(index, stamp, cached)))
    }

    /// Opens `index.json` of a layout of the supported version, with the stamp of the file if the index may be cached.
    fn open_index(&self) -> Result<Option<(Content, Option<FileStamp>)>, Fault> {
        if let Some(archive) = &self.archive {
            let Some(opened) = archive.open_index()? else { return Ok(None) };
            check_version(archive.open(VERSION)?, &self.root)?;
            return Ok(Some(opened));
        }
        let Some(root) = self.find_root()? else { return Ok(None) };
        let Some((file, size)) = root.open_file(INDEX)? else { return Ok(None) };
        check_version(open_version(&root)?, &self.root)?;
        let stamp = FileStamp::from_file(&file);
        Ok(Some((Content::from_file(file, size), stamp)))
    }

    /// Replaces `index.json` as a whole. The caller must hold the lock, or another writer's tag is lost.
    pub(super) fn write_index(&self, index: &Index) -> Result<(), Fault> {
        match &self.archive {
            Some(archive) => archive.write_index(index.render()),
            None => replace(&self.root()?, INDEX, &index.render()),
        }
    }

    /// Returns true if the layout has all files and folders that a writer needs.
    pub(super) fn is_complete(&self) -> Result<bool, Fault> {
        if let Some(archive) = &self.archive {
            return Ok(archive.is_writing());
        }
        let Some(root) = self.find_root()? else { return Ok(false) };
        let Some(blobs) = root.folder(BLOBS)? else { return Ok(false) };
        Ok(root.regular(INDEX)?.is_some() && root.regular(VERSION)?.is_some() && blobs.folder("sha256")?.is_some())
    }

    /// Creates the layout's own folder. Refuses a folder that contains something other than a layout.
    pub(super) fn create_root(&self) -> Result<(), Fault> {
        if let Some(archive) = &self.archive {
            return create_folder(archive.folder());
        }
        let root = self.make_root()?;
        // A writer creates the folder of blobs and files with its own prefix first, then the version file, and then all
        // other files. A killed writer may have created only the first ones. If the version file is still missing after
        // the names were read, the files with other names are foreign.
        let is_foreign = |name: &OsString| {
            let is_own = name == BLOBS || name.to_string_lossy().starts_with(FILE_PREFIX);
            let is_inner = self.tree.is_some() && root.has_folder(name).unwrap_or_default();
            !is_own && !is_inner
        };
        if root.names()?.iter().any(is_foreign) && root.regular(VERSION)?.is_none() {
            return Err(Fault::Foreign { path: self.root.clone() });
        }
        Ok(())
    }

    /// Creates the missing files and folders of the layout. The caller must hold the lock.
    pub(super) fn create_content(&self) -> Result<(), Fault> {
        if self.archive.is_some() {
            return Ok(());
        }
        let root = self.root()?;
        root.make_folder(BLOBS)?.make_folder("sha256")?;
        if root.regular(VERSION)?.is_none() {
            replace(&root, VERSION, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        if root.regular(INDEX)?.is_none() {
            self.write_index(&Index::empty())?;
        }
        check_version(open_version(&root)?, &self.root)
    }

    /// Takes the writers' lock if it is free. Closing the file releases the lock, even if the process is killed.
    pub(super) fn try_lock(&self) -> Result<Option<WriterLock>, Fault> {
        if let Some(archive) = &self.archive {
            return Ok(archive.start_writing(&Index::empty().render())?.then_some(None));
        }
        let file = self.root()?.open_or_create(&Self::lock_name())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Some(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Fault::io("lock", &self.lock_path())(error)),
        }
    }

    /// Creates a file for content of `length` bytes that is not verified yet.
    pub(super) fn create_temporary(&self, length: u64) -> Result<NewContent, Fault> {
        if let Some(archive) = &self.archive {
            return Ok(NewContent::Region(archive.reserve(length)?));
        }
        let path = || self.root.join(BLOBS);
        let gone = || Fault::io("open", &path())(ErrorKind::NotFound.into());
        Temporary::create(self.root()?.folder(BLOBS)?.ok_or_else(gone)?).map(NewContent::File)
    }

    /// Moves verified content to its final path, durably.
    pub(super) fn commit(&self, content: NewContent, digest: &Digest) -> Result<(), Fault> {
        let temporary = match content {
            NewContent::Region(region) => return region.commit(&member_name(digest)),
            NewContent::File(temporary) => temporary,
        };
        let folder = self.root()?.make_folder(BLOBS)?.make_folder(digest.algorithm())?;
        temporary.commit(&folder, &digest.hex())
    }

    /// Writes a manifest under its digest, unless an intact copy exists. An existing copy is made durable too: its
    /// writer may not have synced the folder yet.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), Fault> {
        let digest = manifest.digest();
        let actual = manifest.bytes().len() as u64;
        if actual > MAX_MANIFEST {
            return Err(Fault::TooLarge { path: self.blob_path(&digest), actual, limit: MAX_MANIFEST });
        }
        if self.read_manifest_alone(&digest, None).is_ok_and(|found| found.is_some()) {
            let folder = if self.archive.is_some() { None } else { self.open_blob_folder(&digest)? };
            return folder.map_or(Ok(()), |folder| folder.sync());
        }
        let mut temporary = self.create_temporary(actual)?;
        temporary.write(std::slice::from_ref(manifest.bytes()))?;
        self.commit(temporary, &digest)
    }

    /// Removes a manifest. Content that is not a manifest is not removed: other images may use it as a blob.
    pub(super) fn remove_manifest(&self, digest: &Digest, stated: Option<&MediaType>) -> Result<(), Fault> {
        let is_manifest = match self.read_manifest_alone(digest, stated) {
            Ok(found) => found.is_some_and(|manifest| manifest.view().is_ok()),
            Err(Fault::TooLarge { .. }) => false,
            Err(fault) => return Err(fault),
        };
        if let (true, Some(archive)) = (is_manifest, &self.archive) {
            archive.remove(&member_name(digest));
        } else if is_manifest && let Some(folder) = self.open_blob_folder(digest)? {
            folder.remove(&digest.hex())?;
            folder.sync()?;
        }
        Ok(())
    }

    /// Verifies that all children of a manifest exist, and that blobs have the length that the manifest states. Some
    /// manifests state a wrong length, so a blob of another length is verified by its digest. Foreign layers are
    /// skipped, because they are stored elsewhere.
    pub(super) fn check_children(&self, manifest: &Manifest) -> Result<(), Fault> {
        let view = manifest.view()?;
        let children = match &view.children {
            Children::Blobs { .. } => view.blobs(),
            Children::Manifests(manifests) => manifests.iter().collect(),
        };
        for child in children.into_iter().filter(|child| !child.is_foreign()) {
            let missing =
                |problem| Fault::Missing { digest: child.digest, path: self.blob_path(&child.digest), problem };
            // The sizes of child manifests are not checked: an index may state a wrong size, or no size.
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

    /// Returns true if the content hashes to its digest. Reads the whole content.
    fn is_intact(&self, digest: &Digest) -> Result<bool, Fault> {
        let Some(content) = self.open_blob(digest)? else { return Ok(false) };
        let (mut digester, mut piece) = (Digester::like(digest), vec![0; HASHED_AT_ONCE]);
        let mut reader = content.reader();
        loop {
            match reader.read(&mut piece).map_err(Fault::io("read", &self.blob_path(digest)))? {
                0 => return Ok(digester.finish() == *digest),
                read => digester.update(piece.get(..read).unwrap_or_default()),
            }
        }
    }

    /// Removes the temporary files of dead writers and returns their number.
    pub(super) fn remove_leftovers(&self) -> Result<usize, Fault> {
        if self.archive.is_some() {
            return Ok(0);
        }
        match self.root()?.folder(BLOBS)? {
            Some(folder) => temporary::remove_leftovers(&folder),
            None => Ok(0),
        }
    }
}

/// Returns the name of content within an archive, or its path below a folder.
fn member_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm(), digest.hex())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::layout::index_cache::MIN_CACHED_AGE;

    #[test]
    fn settled_index_file_is_cached_until_taken() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        disk.create_content().unwrap();
        let is_cached = || {
            drop(disk.read_index().unwrap().unwrap());
            disk.cache.lock().is_some()
        };
        // The clock of the test may differ from the clock of the file system, so the test sets the time of the file.
        let changed =
            |time| File::options().write(true).open(folder.path().join(INDEX)).unwrap().set_modified(time).unwrap();
        changed(SystemTime::now());
        assert!(!is_cached(), "a second change at the same time would not change the stamp");
        changed(SystemTime::now() - 2 * MIN_CACHED_AGE);
        assert!(is_cached());
        drop(disk.read_index().unwrap().unwrap().into_index());
        assert!(disk.cache.lock().is_none(), "a writer owns the index that it changes");
    }
}
