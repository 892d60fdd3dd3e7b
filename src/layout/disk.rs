//! Access to the files of a layout, in a folder or in an archive. If the machine crashes during a write, the file has
//! either its old or its new content. All calls block.

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

/// Maximum size of a manifest, in bytes. This is also the highest limit that `max_manifest` permits for a registry.
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

/// Place of a layout in a tree of layouts. The folder of the layout can also contain folders of other layouts.
#[derive(Debug)]
struct TreePlace {
    /// Folder of the tree. The operator chose this path, so transship follows links in the path.
    root: PathBuf,
    /// Repository of the layout. No folder between `root` and the layout may be a link.
    name: RepositoryName,
}

/// Lock of a writer. The value is `None` for an archive, which is locked while it has unpublished files.
pub(super) type WriterLock = Option<File>;

/// Number of bytes of content that are hashed at a time.
const HASHED_AT_ONCE: usize = 64 << 10;

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), archive: None, tree: None, cache: IndexCache::default() }
    }

    /// Returns the `Disk` for the layout of a repository in a tree of layouts. Does not write files.
    pub(super) fn in_tree(root: &Path, name: &RepositoryName) -> Self {
        let tree = TreePlace { root: root.to_owned(), name: name.clone() };
        Self { tree: Some(tree), ..Self::new(&root.join(name.as_str())) }
    }

    /// Returns the `Disk` for the archive at `path`. Does not write files.
    pub(super) fn in_archive(path: &Path) -> Self {
        Self { archive: Some(Archive::new(path)), ..Self::new(path) }
    }

    /// Replaces an archive by its unpublished files. Does nothing for a folder, whose files are visible immediately.
    /// The caller must be the only writing task of this process.
    pub(super) fn publish(&self) -> Result<(), Fault> {
        self.archive.as_ref().map_or(Ok(()), Archive::publish)
    }

    /// Removes the unpublished files of an archive. Does nothing for a folder.
    pub(super) fn discard(&self) {
        self.archive.iter().for_each(Archive::discard);
    }

    /// Returns true if the layout is an archive with unpublished files.
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

    /// Opens the layout's folder. If the folder is missing, returns an error.
    fn root(&self) -> Result<Folder, Fault> {
        self.find_root()?.ok_or_else(|| self.missing_layout_fault())
    }

    /// Opens the layout's folder; `None` if the folder does not exist. Follows no link below the root of a tree.
    fn find_root(&self) -> Result<Option<Folder>, Fault> {
        let Some(TreePlace { root, name }) = &self.tree else { return Folder::root(&self.root) };
        let mut folder = Folder::root(root)?;
        for part in name.as_str().split('/') {
            let Some(outer) = folder else { return Ok(None) };
            folder = outer.folder(part)?;
        }
        Ok(folder)
    }

    /// Opens the layout's folder. If the folder does not exist, creates the folder. Follows no link below the root of a
    /// tree.
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

    /// Opens the folder for the algorithm of the digest, such as `blobs/sha256`; `None` if the folder does not exist.
    fn open_blob_folder(&self, digest: &Digest) -> Result<Option<Folder>, Fault> {
        let Some(root) = self.find_root()? else { return Ok(None) };
        let Some(blobs) = root.folder(BLOBS)? else { return Ok(None) };
        blobs.folder(digest.algorithm())
    }

    /// Opens content; `None` if the content does not exist. Opens only a regular file: a link could lead out of the
    /// layout, and a pipe would block for ever.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<Content>, Fault> {
        if let Some(archive) = &self.archive {
            return archive.open(&member_name(digest));
        }
        let Some(folder) = self.open_blob_folder(digest)? else { return Ok(None) };
        Ok(folder.open_file(&digest.hex())?.map(|(file, length)| Content::from_file(file, length)))
    }

    /// Returns the length of content in bytes; `None` if the content does not exist.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        if let Some(archive) = &self.archive {
            return Ok(archive.open(&member_name(digest))?.map(|content| content.length()));
        }
        let Some(folder) = self.open_blob_folder(digest)? else { return Ok(None) };
        Ok(folder.regular(&digest.hex())?.map(|file| u64::try_from(file.st_size).unwrap_or_default()))
    }

    /// Opens a blob. Returns an error if the file has another length than the descriptor, or is shorter than `offset`.
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

    /// Returns the length in bytes of the content that an entry of `index.json` points at. Returns `None` if the
    /// content is missing, or has another length than the entry states.
    pub(super) fn stored_size(&self, pointer: &Pointer) -> Result<Option<u64>, Fault> {
        let actual = self.blob_size(&pointer.digest)?;
        Ok(actual.filter(|actual| pointer.size.is_none_or(|stated| stated == *actual)))
    }

    /// Returns the image that a tag points at; `None` if no entry of `index.json` has this name. Returns an error if
    /// several images have this name, or if the entry has no valid digest.
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

    /// Returns the error for missing content.
    pub(super) fn missing_content_fault(&self, digest: &Digest) -> Fault {
        Fault::Lost { path: self.blob_path(digest) }
    }

    /// Returns the error for a missing layout.
    pub(super) fn missing_layout_fault(&self) -> Fault {
        let path = self.root.clone();
        if self.archive.is_some() { Fault::NoArchive { path } } else { Fault::NoLayout { path } }
    }

    /// Reads a manifest and verifies its digest; `None` if the manifest does not exist. `stated` is the media type in
    /// an entry of `index.json`, if the caller has an entry. If neither the body nor `stated` gives the type of a
    /// manifest, this function searches `index.json` for an entry with this digest and uses the type in that entry.
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

    /// Reads a manifest like [`Self::read_manifest`], but does not read `index.json`. A caller that has an
    /// [`IndexGuard`] must use this function, because reading `index.json` would be a deadlock.
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

    /// Reads `index.json`; `None` if the file does not exist. Waits until no other caller has an [`IndexGuard`].
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

    /// Opens `index.json`. Also returns the stamp of the file, if the caller can cache the index. Returns an error if
    /// the layout has an unsupported version.
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

    /// Replaces `index.json` as a whole. The caller must hold the lock. Without the lock, the tag of another writer
    /// could be lost.
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

    /// Creates the layout's folder. Returns an error if the folder contains other files and no layout.
    pub(super) fn create_root(&self) -> Result<(), Fault> {
        if let Some(archive) = &self.archive {
            return create_folder(archive.folder());
        }
        let root = self.make_root()?;
        // A writer first creates `blobs` and files with the prefix `.transship`, then the version file, then all other
        // files. So if the version file is missing, transship did not write the files with other names. Look for the
        // version file after reading the names, because another process can create the layout at the same time.
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

    /// Takes the writers' lock; `None` if another process has the lock. The operating system releases the lock when the
    /// file is closed, even if the process is killed.
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

    /// Creates a file for `length` bytes of unverified content.
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

    /// Writes a manifest under its digest, durably. If an intact copy exists, only syncs its folder, because the writer
    /// of the copy may not have synced the folder yet.
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

    /// Removes the file of a manifest. Does not remove content that is not a manifest, because images can use the
    /// content as a blob.
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

    /// Verifies that all children of a manifest exist. If a blob has another length than the manifest states, verifies
    /// the digest of the blob, because some manifests state a wrong length. Skips foreign layers, which are stored
    /// elsewhere.
    pub(super) fn check_children(&self, manifest: &Manifest) -> Result<(), Fault> {
        let view = manifest.view()?;
        let children = match &view.children {
            Children::Blobs { .. } => view.blobs(),
            Children::Manifests(manifests) => manifests.iter().collect(),
        };
        for child in children.into_iter().filter(|child| !child.is_foreign()) {
            let missing =
                |problem| Fault::Missing { digest: child.digest, path: self.blob_path(&child.digest), problem };
            // Do not check the sizes of child manifests: some indexes state a wrong size or no size.
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

    /// Returns true if the content has this digest. Reads the whole content.
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

    /// Removes the temporary files of killed writers. Returns the number of removed files.
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

/// Returns the path of content below the layout's folder, which is also its name in an archive: `blobs/sha256/…`.
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
