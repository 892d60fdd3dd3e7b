//! The files of a layout: where they are, how they are read, and how they are replaced so that a crash at any
//! instant leaves either the old content or the new. Blocking calls; no task and no lock of a task is known here.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::fault::Fault;
use super::index::{Index, IndexError, Pointer};
use super::temporary::{self, Temporary};
use crate::oci::{Children, Descriptor, Digest, Manifest, MediaType};

/// The most bytes of a manifest that are read: as much as can be set for a registry.
const MAX_MANIFEST: u64 = 8 << 20;
/// The most bytes of `index.json` that are read: some two hundred thousand tags.
const MAX_INDEX: u64 = 64 << 20;
/// How the names of all files begin that are nobody else's.
pub(super) const OURS: &str = ".transship";

/// The folder of one layout.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn version_path(&self) -> PathBuf {
        self.root.join("oci-layout")
    }

    fn blobs_path(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join(format!("{OURS}.lock"))
    }

    /// Where content is kept. A digest has no `/` and no `.`, so this cannot leave the layout.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_path().join(digest.algorithm()).join(digest.hex())
    }

    /// Opens some content and tells its length; `None` where there is none. What is not a regular file is refused
    /// unopened: a link could lead out of the layout, a pipe would wait for ever.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, Fault> {
        let path = self.blob_path(digest);
        loop {
            let Some(seen) = self.regular(&path)? else { return Ok(None) };
            let file = File::open(&path).map_err(Fault::io("open", &path))?;
            let opened = file.metadata().map_err(Fault::io("open", &path))?;
            // Otherwise it was replaced between the look and the opening.
            if identity(&opened) == identity(&seen) {
                return Ok(Some((file, opened.len())));
            }
        }
    }

    /// The length of some content; `None` where there is none.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        Ok(self.regular(&self.blob_path(digest))?.map(|file| file.len()))
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

    /// Whether the content that an entry points at is there with the length that it states.
    pub(super) fn is_there(&self, at: &Pointer) -> Result<bool, Fault> {
        Ok(self.blob_size(&at.digest)? == Some(at.size))
    }

    /// The fault of content that should be there.
    pub(super) fn lost(&self, digest: &Digest) -> Fault {
        Fault::Lost { path: self.blob_path(digest) }
    }

    /// The fault of a folder that is not there or no layout.
    pub(super) fn no_layout(&self) -> Fault {
        Fault::NoLayout { path: self.root.clone() }
    }

    fn regular(&self, path: &Path) -> Result<Option<fs::Metadata>, Fault> {
        match fs::symlink_metadata(path) {
            Ok(file) if file.is_file() => Ok(Some(file)),
            Ok(_) => Err(Fault::NotRegular { path: path.to_owned() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::io("look at", path)(error)),
        }
    }

    /// Reads a manifest and proves its digest; `None` where it is not there. `stated` is what an entry says of its type;
    /// without that the body tells, and where the body is silent, any entry of `index.json`.
    pub(super) fn read_manifest(&self, digest: &Digest, stated: Option<&MediaType>) -> Result<Option<Manifest>, Fault> {
        let path = self.blob_path(digest);
        let Some((file, size)) = self.open_blob(digest)? else { return Ok(None) };
        let bytes: Bytes = read_up_to(file, size, MAX_MANIFEST, &path)?.into();
        let mut manifest = Manifest::received(stated, bytes.clone(), Some(digest));
        if manifest.digest() != *digest {
            return Err(Fault::Content { path, actual: manifest.digest() });
        }
        if !manifest.media_type().is_manifest()
            && let Some(index) = self.read_index()?
        {
            manifest = Manifest::received(index.media_type_of(digest), bytes, Some(digest));
        }
        Ok(Some(manifest))
    }

    /// Reads `index.json`; `None` where there is none.
    pub(super) fn read_index(&self) -> Result<Option<Index>, Fault> {
        let path = self.index_path();
        let Some(bytes) = read_file(&path, MAX_INDEX)? else { return Ok(None) };
        self.check_version()?;
        Index::parse(&bytes).map(Some).map_err(|error| match error {
            IndexError::Json(error) => Fault::json(&path)(error),
            IndexError::NotAList => Fault::Shape { path, reason: error.to_string() },
        })
    }

    /// Replaces `index.json` as a whole. To be called under the lock, or the tag of another writer is lost.
    pub(super) fn write_index(&self, index: Index) -> Result<(), Fault> {
        let path = self.index_path();
        let bytes = index.render().map_err(Fault::json(&path))?;
        self.replace(&path, &bytes)
    }

    /// A layout without the version file is read as `skopeo` reads it; one of another version is not.
    fn check_version(&self) -> Result<(), Fault> {
        let path = self.version_path();
        let Some(bytes) = read_file(&path, MAX_MANIFEST)? else { return Ok(()) };
        let body: serde_json::Value = serde_json::from_slice(&bytes).map_err(Fault::json(&path))?;
        match body["imageLayoutVersion"].as_str() {
            Some("1.0.0") => Ok(()),
            version => Err(Fault::Version { path, version: version.unwrap_or_default().to_owned() }),
        }
    }

    /// Whether the layout has all that a writer needs.
    pub(super) fn is_complete(&self) -> bool {
        self.index_path().is_file() && self.version_path().is_file() && self.blobs_path().join("sha256").is_dir()
    }

    /// Makes the folder itself, and refuses one that holds something else than a layout.
    pub(super) fn create_root(&self) -> Result<(), Fault> {
        create_folder(&self.root)?;
        // What a writer makes before the version file is the folder of blobs and files of its own; it may have been
        // killed then. All else comes later, so a version file that is still missing after the look was never there.
        let mut foreign = false;
        for file in fs::read_dir(&self.root).map_err(Fault::io("list", &self.root))? {
            let name = file.map_err(Fault::io("list", &self.root))?.file_name();
            foreign |= name != "blobs" && !name.to_string_lossy().starts_with(OURS);
        }
        if foreign && !self.version_path().exists() {
            return Err(Fault::Foreign { path: self.root.clone() });
        }
        Ok(())
    }

    /// Makes what is missing inside the folder. To be called under the lock.
    pub(super) fn create_content(&self) -> Result<(), Fault> {
        create_folder(&self.blobs_path().join("sha256"))?;
        if !self.version_path().exists() {
            self.replace(&self.version_path(), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        if !self.index_path().exists() {
            self.write_index(Index::empty())?;
        }
        self.check_version()
    }

    /// Takes the writers' lock, if it is free. It is given back when the file is closed, by whatever end.
    pub(super) fn try_lock(&self) -> Result<Option<File>, Fault> {
        let path = self.lock_path();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Fault::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Fault::io("lock", &path)(error)),
        }
    }

    /// Writes a file of the layout's folder: a new file, synced, renamed over the old one. To be called under the
    /// lock: the new file has one name for all writers, so what a killed one left is overwritten by the next.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Fault> {
        let new = self.root.join(format!("{OURS}.new"));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Fault::io("remove", &new)(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&new).map_err(Fault::io("create", &new))?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions()).map_err(Fault::io("set the mode of", &new))?;
        }
        file.write_all(bytes).map_err(Fault::io("write", &new))?;
        file.sync_all().map_err(Fault::io("sync", &new))?;
        fs::rename(&new, path).map_err(Fault::io("replace", path))?;
        sync_folder(&self.root)
    }

    /// A new file for content that is not proven yet.
    pub(super) fn create_temporary(&self) -> Result<Temporary, Fault> {
        Temporary::create(&self.blobs_path())
    }

    /// Moves proven content to its place, durably.
    pub(super) fn commit(&self, temporary: Temporary, digest: &Digest) -> Result<(), Fault> {
        let path = self.blob_path(digest);
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        temporary.commit(&path)
    }

    /// Writes a manifest under its digest, unless it is there already, whole. Durable in either case: the bytes that are
    /// there may be of a writer that has not yet synced the folder.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), Fault> {
        let digest = manifest.digest();
        let path = self.blob_path(&digest);
        let actual = manifest.bytes().len() as u64;
        if actual > MAX_MANIFEST {
            return Err(Fault::TooLarge { path, actual, limit: MAX_MANIFEST });
        }
        if self.read_manifest(&digest, None).is_ok_and(|found| found.is_some()) {
            return path.parent().map_or(Ok(()), sync_folder);
        }
        let mut temporary = self.create_temporary()?;
        temporary.write(std::slice::from_ref(manifest.bytes()))?;
        self.commit(temporary, &digest)
    }

    /// Removes a manifest. Content that is no manifest is left alone: it belongs to others.
    pub(super) fn remove_manifest(&self, digest: &Digest) -> Result<(), Fault> {
        let is_manifest = match self.read_manifest(digest, None) {
            Ok(found) => found.is_some_and(|manifest| manifest.view().is_ok()),
            Err(Fault::TooLarge { .. }) => false,
            Err(fault) => return Err(fault),
        };
        if !is_manifest {
            return Ok(());
        }
        let path = self.blob_path(digest);
        fs::remove_file(&path).map_err(Fault::io("remove", &path))?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    /// Proves that what a manifest points at is there with the length that it states. Foreign layers live elsewhere.
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
                Some(size) if has_length && size != child.size => return Err(missing("has another length")),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Removes the temporary files of writers that are dead, and says how many.
    pub(super) fn remove_leftovers(&self) -> Result<usize, Fault> {
        temporary::remove_leftovers(&self.blobs_path())
    }
}

/// What tells whether two looks saw the same file.
pub(super) fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io("open", path)(error)),
    };
    let size = file.metadata().map_err(Fault::io("open", path))?.len();
    read_up_to(file, size, limit, path).map(Some)
}

/// Reads a file of `size` bytes whole, and never more than `limit` even while it grows.
fn read_up_to(file: File, size: u64, limit: u64, path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    if size <= limit {
        file.take(limit + 1).read_to_end(&mut bytes).map_err(Fault::io("read", path))?;
    }
    match size.max(bytes.len() as u64) {
        actual if actual > limit => Err(Fault::TooLarge { path: path.to_owned(), actual, limit }),
        _ => Ok(bytes),
    }
}

/// Makes a folder and those above it, each durable before the next.
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
pub(super) fn sync_folder(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Fault::io("sync", path))
}
