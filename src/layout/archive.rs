//! OCI archive: one tar file with the files of an image layout, as `skopeo` and `podman` write it.
//!
//! - A reader reads the headers of the tar file once, and then reads content at its position in the file. Nothing is
//!   unpacked to disk.
//! - The first write creates a new file beside the archive, and copies the archive's content to the new file. All
//!   writes go to the new file. [`Archive::publish`] replaces the archive by the new file. If the process is killed
//!   before `publish`, the old archive stays.
//! - The writing process holds a lock on the new file. If a killed process left a new file, the next writer removes
//!   this file.
//! - If the path is a symbolic link, the new file is beside the file to which the link points, and replaces that file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::content::Content;
use super::fault::Fault;
use super::folder::FILE_PREFIX;
use super::index_cache::FileStamp;
use super::version::VERSION;

mod members;
mod staging;

use members::{INDEX, Member, Members, read_members};
pub(super) use staging::Region;
use staging::{Staging, not_started};

/// Maximum number of symbolic links that `real_path` follows if the archive does not exist yet.
const MAX_LINKS: usize = 40;

/// Archive at a path.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    /// The archive as of the last read.
    published: Mutex<Option<Arc<Published>>>,
    /// The new file. `None` before the first write and after the publication.
    staging: Arc<Mutex<Option<Staging>>>,
}

/// Published archive, which other processes can also read: the open file and its members.
#[derive(Debug)]
struct Published {
    file: Arc<File>,
    stamp: FileStamp,
    members: Members,
}

impl Published {
    fn open(&self, name: &str, path: &Path) -> Result<Option<Content>, Fault> {
        match self.members.get(name) {
            Some(Member::File(span)) => {
                let file = Arc::clone(&self.file);
                Ok(Some(Content::Stored { file, start: span.start, length: span.length }))
            }
            Some(Member::Other | Member::Unnamed) => Err(Fault::NotRegular { path: path.join(name) }),
            None => Ok(None),
        }
    }
}

impl Archive {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), published: Mutex::default(), staging: Arc::default() }
    }

    /// Returns the folder of the archive.
    pub(super) fn folder(&self) -> &Path {
        staging::parent(&self.path)
    }

    /// Returns the path of the new file, which the writer locks.
    pub(super) fn new_path(&self) -> PathBuf {
        staging::new_path(&self.real_path())
    }

    /// Returns the path of the archive without symbolic links. So all paths of one archive lead to the same new file
    /// and the same lock.
    fn real_path(&self) -> PathBuf {
        let mut path = self.path.clone();
        // If a link leads to a missing file, `canonicalize` fails. So this loop follows such links one by one.
        for _ in 0..MAX_LINKS {
            match (fs::canonicalize(&path), fs::read_link(&path)) {
                (Ok(real), _) => return real,
                (Err(_), Ok(next)) => path = staging::parent(&path).join(next),
                (Err(_), Err(_)) => break,
            }
        }
        path
    }

    /// Returns the content of a file in the archive; `None` if the archive does not have the file. If there is a new
    /// file, reads the new file.
    pub(super) fn open(&self, name: &str) -> Result<Option<Content>, Fault> {
        if let Some(staging) = self.staging.lock().as_ref() {
            return Ok(staging.open(name));
        }
        match self.read_published()? {
            Some(published) => published.open(name, &self.path),
            None => Ok(None),
        }
    }

    /// Returns the content of `index.json`. Also returns the stamp of the archive, if the caller can cache the content.
    pub(super) fn open_index(&self) -> Result<Option<(Content, Option<FileStamp>)>, Fault> {
        if let Some(staging) = self.staging.lock().as_ref() {
            return Ok(staging.open(INDEX).map(|index| (index, None)));
        }
        let Some(published) = self.read_published()? else { return Ok(None) };
        let stamp = FileStamp::from_file(&published.file);
        Ok(published.open(INDEX, &self.path)?.map(|index| (index, stamp)))
    }

    /// Replaces `index.json` in the new file. If there is no new file, returns an error.
    pub(super) fn write_index(&self, bytes: Vec<u8>) -> Result<(), Fault> {
        let mut staging = self.staging.lock();
        staging.as_mut().ok_or_else(|| not_started(&self.path))?.set_index(bytes.into());
        Ok(())
    }

    /// Returns true if there is a new file.
    pub(super) fn is_writing(&self) -> bool {
        self.staging.lock().is_some()
    }

    /// Creates the new file, if there is none. If the archive does not exist, `index` becomes the `index.json` of the
    /// new file. Returns false if another process is writing the archive.
    pub(super) fn start_writing(&self, index: &[u8]) -> Result<bool, Fault> {
        if self.is_writing() {
            return Ok(true);
        }
        let Some(mut started) = Staging::start(&self.real_path())? else { return Ok(false) };
        if let Some(published) = self.read_published()? {
            started.set_base(published.stamp.clone());
            let old = published.open(INDEX, &self.path)?;
            if old.is_none() && !published.members.is_empty() {
                let reason =
                    "the tar file has no index.json, so it is not an OCI archive: name another file".to_owned();
                return Err(Fault::Shape { path: self.path.clone(), reason });
            }
            for (name, member) in &published.members {
                match member {
                    Member::File(_) => {}
                    Member::Other => return Err(Fault::NotRegular { path: self.path.join(name) }),
                    Member::Unnamed => {
                        return Err(Fault::MemberName { path: self.path.clone(), name: name.clone() });
                    }
                }
            }
            let is_own = |name: &&String| matches!(name.as_str(), INDEX | VERSION) || name.starts_with(FILE_PREFIX);
            let names = published.members.keys().filter(|name| !is_own(name));
            for name in names {
                if let Some(content) = published.open(name, &self.path)? {
                    started.copy(name, &content)?;
                }
            }
            started.copy_mode(&published.file)?;
            let index = old.map_or(Ok(index.to_vec()), |old| old.read_up_to(u64::MAX, &self.path))?;
            started.set_index(index.into());
        } else {
            started.set_index(Bytes::copy_from_slice(index));
        }
        *self.staging.lock() = Some(started);
        Ok(true)
    }

    /// Reserves space for content of `length` bytes in the new file. If there is no new file, returns an error.
    pub(super) fn reserve(&self, length: u64) -> Result<Region, Fault> {
        let mut staging = self.staging.lock();
        let started = staging.as_mut().ok_or_else(|| not_started(&self.path))?;
        Ok(Region::new(Arc::clone(&self.staging), started, length))
    }

    /// Removes a member from the new file. If there is no new file, does nothing.
    pub(super) fn remove(&self, name: &str) {
        if let Some(staging) = self.staging.lock().as_mut() {
            staging.remove(name);
        }
    }

    /// Replaces the archive by the new file, durably. If there is no new file, does nothing. The caller must be the
    /// only writing task of this process.
    ///
    /// If the new file has gaps, or if other runs are uploading into the new file, publishes a copy of the complete
    /// members. The uploads continue in the new file.
    pub(super) fn publish(&self) -> Result<(), Fault> {
        let mut guard = self.staging.lock();
        let Some(staging) = guard.as_mut() else { return Ok(()) };
        if let Err(fault) = staging.check_base() {
            // This new file can never replace the archive.
            *guard = None;
            return Err(fault);
        }
        if staging.is_compact() {
            staging.finish()?;
        } else {
            staging.publish_copy()?;
        }
        let synced = staging.sync();
        // After the rename, the new file is the archive, even if `sync` failed. So this process must not write to the
        // file any more.
        if !staging.has_open_regions() {
            *guard = None;
        }
        synced
    }

    /// Removes the new file, if there is one. The caller must be the only writing task of this process.
    pub(super) fn discard(&self) {
        *self.staging.lock() = None;
    }

    /// Returns the published archive. If the file has not changed since the last call, does not read the headers again.
    /// If the file is missing or empty, returns `None`.
    fn read_published(&self) -> Result<Option<Arc<Published>>, Fault> {
        let failed = |error: std::io::Error| Fault::io("open", &self.path)(error);
        // Without `NONBLOCK`, opening a pipe would block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match openat(CWD, &self.path, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            let reason = format!("is a folder, not an archive: write oci-layout:{}", self.path.display());
            return Err(Fault::Shape { path: self.path.clone(), reason });
        }
        if !metadata.is_file() {
            return Err(Fault::NotRegular { path: self.path.clone() });
        }
        let stamp = FileStamp::from_metadata(&metadata);
        let mut published = self.published.lock();
        if let Some(known) = published.as_ref().filter(|known| known.stamp == stamp) {
            return Ok(Some(Arc::clone(known)));
        }
        if metadata.len() == 0 {
            return Ok(None);
        }
        let members = read_members(&file, metadata.len(), &self.path)?;
        let read = Arc::new(Published { file: Arc::new(file), stamp, members });
        *published = Some(Arc::clone(&read));
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_file_is_not_written_if_its_rename_is_not_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let archive = Archive::new(&path);
        assert!(archive.start_writing(b"{}").unwrap());
        archive.staging.lock().as_mut().unwrap().break_sync();
        assert!(matches!(archive.publish(), Err(Fault::Io { doing: "sync", .. })));
        assert!(!archive.is_writing());
        let published = fs::read(&path).unwrap();
        assert!(!published.is_empty());
        assert!(archive.start_writing(b"{}").unwrap());
        drop(archive.reserve(9).unwrap());
        archive.discard();
        assert_eq!(fs::read(&path).unwrap(), published);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
