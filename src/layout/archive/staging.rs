//! New file of an archive. Several tasks write members of this tar file at the same time, each into its own reserved
//! space.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::members::{BLOCK, INDEX, Span};
use crate::layout::content::Content;
use crate::layout::fault::Fault;
use crate::layout::folder::Folder;
use crate::layout::index_cache::FileStamp;
use crate::layout::version::VERSION;

/// Number of bytes before the content of a member that transship adds: an extension header, one block for the name, and
/// the header of the member. The name has at most [`MAX_OWN_NAME`] bytes.
const HEADERS: u64 = 3 * BLOCK;
/// Maximum length of the name of a member that transship adds, in bytes.
const MAX_OWN_NAME: usize = BLOCK as usize - 1;
/// Number of zero bytes at the end of an archive.
const END: u64 = 2 * BLOCK;
/// Number of bytes that are copied at a time.
const COPIED_AT_ONCE: usize = 1 << 20;

/// New file of an archive. Dropping the value removes the file, unless the file was published.
#[derive(Debug)]
pub(super) struct Staging {
    file: Arc<File>,
    /// Folder of the archive.
    folder: Folder,
    /// Name of the new file.
    name: String,
    /// Name of the archive.
    archive: String,
    /// State of the archive from which the new file was copied; `None` if there was no archive.
    base: Option<FileStamp>,
    members: HashMap<String, Span>,
    index: Bytes,
    /// Position after the last reserved byte.
    end: u64,
    /// Number of uploads that are writing to a [`Region`] of the file.
    open_regions: usize,
    /// True if the file has bytes that belong to no member.
    has_gaps: bool,
    is_published: bool,
}

impl Staging {
    /// Creates the new file of the archive at this path. First removes a new file that a killed process left. Returns
    /// `None` if another process has locked the new file. Does not follow a link at the path of the new file.
    pub(super) fn start(archive: &Path) -> Result<Option<Self>, Fault> {
        let folder = open_folder(parent(archive))?;
        let name = file_name(archive)?;
        Self::create(folder, hidden_name(name, "new"), name.to_owned())
    }

    fn create(folder: Folder, name: String, archive: String) -> Result<Option<Self>, Fault> {
        let is_locked = |file: &File| match file.try_lock() {
            // Before this process got the lock, another process can have published or removed the file.
            Ok(()) => Ok(folder.names_file(&name, file)),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(Fault::io("lock", &folder.path().join(&name))(error)),
        };
        // Do not reuse the file of a killed process: its name can also be a hard link to a file of another program.
        let left = folder.open_to_write(&name)?;
        if let Some(left) = &left {
            if !is_locked(left)? {
                return Ok(None);
            }
            folder.remove(&name)?;
        }
        let Some(file) = folder.create_new(&name)? else { return Ok(None) };
        if !is_locked(&file)? {
            return Ok(None);
        }
        Ok(Some(Self {
            file: Arc::new(file),
            folder,
            name,
            archive,
            base: None,
            members: HashMap::new(),
            index: Bytes::new(),
            end: 0,
            open_regions: 0,
            has_gaps: false,
            is_published: false,
        }))
    }

    /// Returns the path of the new file, for messages.
    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Sets the mode of the new file to the mode of the archive.
    pub(super) fn copy_mode(&self, archive: &File) -> Result<(), Fault> {
        let mode = archive.metadata().and_then(|old| self.file.set_permissions(old.permissions()));
        mode.map_err(Fault::io("set the mode of", &self.path()))
    }

    /// Records the state of the archive from which the new file was copied.
    pub(super) fn set_base(&mut self, base: FileStamp) {
        self.base = Some(base);
    }

    pub(super) fn open(&self, name: &str) -> Option<Content> {
        if name == INDEX {
            return Some(Content::Memory(self.index.clone()));
        }
        let span = self.members.get(name)?;
        Some(Content::Stored { file: Arc::clone(&self.file), start: span.start, length: span.length })
    }

    pub(super) fn set_index(&mut self, bytes: Bytes) {
        self.index = bytes;
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.has_gaps |= self.members.remove(name).is_some();
    }

    /// Returns true if all members are complete, and there are no gaps between the members.
    pub(super) fn is_compact(&self) -> bool {
        !self.has_gaps && self.open_regions == 0
    }

    /// Returns true if an upload is in progress.
    pub(super) fn has_open_regions(&self) -> bool {
        self.open_regions > 0
    }

    /// Reserves space for `headers` bytes of headers and `length` bytes of content. Returns the position of the
    /// headers.
    fn reserve(&mut self, headers: u64, length: u64) -> u64 {
        let start = self.end;
        self.end = start.saturating_add(headers).saturating_add(padded(length));
        start
    }

    /// Adds a copy of content as a member.
    pub(super) fn copy(&mut self, name: &str, content: &Content) -> Result<(), Fault> {
        let (headers, length) = (headers(name, content.length()), content.length());
        let start = self.reserve(headers.len() as u64, length) + headers.len() as u64;
        // If the copy fails, its space remains as a gap.
        let had_gaps = std::mem::replace(&mut self.has_gaps, true);
        let (mut piece, mut copied, mut reader) = (vec![0; COPIED_AT_ONCE], 0, content.reader());
        loop {
            let read = reader.read(&mut piece).map_err(Fault::io("copy to", &self.path()))?;
            if read == 0 {
                break;
            }
            let written = self.file.write_all_at(&piece[..read], start + copied);
            written.map_err(Fault::io("write", &self.path()))?;
            copied += read as u64;
        }
        if copied != length {
            return Err(Fault::Length { path: self.path(), actual: copied, expected: length });
        }
        self.add_member(name, &headers, start, length)?;
        self.has_gaps = had_gaps;
        Ok(())
    }

    /// Adds a member whose content is already in the file. Writes the headers before `start`, the position of the
    /// content.
    fn add_member(&mut self, name: &str, headers: &[u8], start: u64, length: u64) -> Result<(), Fault> {
        let written = self.file.write_all_at(headers, start - headers.len() as u64);
        written.map_err(Fault::io("write", &self.path()))?;
        self.has_gaps |= self.members.insert(name.to_owned(), Span { start, length }).is_some();
        Ok(())
    }

    /// Returns an error if another program has changed the archive since the new file was created. The new file does
    /// not have the changes of the other program.
    pub(super) fn check_base(&self) -> Result<(), Fault> {
        let present = self.folder.open_file(&self.archive)?.filter(|(_, length)| *length > 0);
        let path = self.folder.path().join(&self.archive);
        let present = match present {
            Some((file, _)) => Some(file.metadata().map_err(Fault::io("open", &path))?),
            None => None,
        };
        let is_same = match (&self.base, present.as_ref().map(FileStamp::from_metadata)) {
            (None, None) => true,
            (Some(base), Some(present)) => base.has_same_content(&present),
            _ => false,
        };
        if is_same { Ok(()) } else { Err(Fault::Changed { path }) }
    }

    /// Adds `oci-layout` and `index.json`, syncs the file, and renames the file to the archive. The caller makes the
    /// rename durable with [`Self::sync`].
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        let last = [(VERSION, Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#)), (INDEX, self.index.clone())];
        for (name, bytes) in last {
            self.copy(name, &Content::Memory(bytes))?;
        }
        let written = self.file.set_len(self.end + END).and_then(|()| self.file.sync_all());
        written.map_err(Fault::io("write", &self.path()))?;
        self.folder.rename(&self.name, &self.folder, &self.archive)?;
        self.is_published = true;
        Ok(())
    }

    /// Makes the rename of [`Self::finish`] or [`Self::publish_copy`] durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.folder.sync()
    }

    /// Makes every later [`Self::sync`] fail.
    #[cfg(test)]
    pub(super) fn break_sync(&mut self) {
        self.folder = Folder::without_sync(self.folder.path());
    }

    /// Replaces the archive by a copy of the complete members. The new file does not change.
    pub(super) fn publish_copy(&mut self) -> Result<(), Fault> {
        let path = self.folder.path().join(&self.archive);
        let folder = open_folder(self.folder.path())?;
        let copy = Self::create(folder, hidden_name(&self.archive, "copy"), self.archive.clone())?;
        let mut copy = copy.ok_or_else(|| Fault::Locked { path: path.clone(), seconds: 0 })?;
        // `finish` adds `index.json` and `oci-layout` to the copy. An earlier `finish` of the new file can have failed
        // after it added these two members.
        for name in self.members.keys().filter(|name| !matches!(name.as_str(), INDEX | VERSION)) {
            if let Some(content) = self.open(name) {
                copy.copy(name, &content)?;
            }
        }
        copy.copy_mode(&self.file)?;
        copy.set_index(self.index.clone());
        copy.finish()?;
        let published = copy.file.metadata().map_err(Fault::io("open", &path))?;
        self.base = Some(FileStamp::from_metadata(&published));
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_published {
            // If the file cannot be removed now, the next writer removes it.
            _ = self.folder.remove(&self.name);
        }
    }
}

/// Reserved space for the content of one member, which one upload writes. If the upload drops the value without a
/// commit, the space becomes a gap.
#[derive(Debug)]
pub(in crate::layout) struct Region {
    staging: Arc<Mutex<Option<Staging>>>,
    /// The new file that contains the space. `staging` can already contain a later new file.
    file: Arc<File>,
    path: PathBuf,
    /// Position of the content.
    start: u64,
    length: u64,
    written: u64,
    is_committed: bool,
}

impl Region {
    pub(super) fn new(shared: Arc<Mutex<Option<Staging>>>, staging: &mut Staging, length: u64) -> Self {
        let start = staging.reserve(HEADERS, length).saturating_add(HEADERS);
        staging.open_regions += 1;
        let (file, path) = (Arc::clone(&staging.file), staging.path());
        Self { staging: shared, file, path, start, length, written: 0, is_committed: false }
    }

    /// Writes the next pieces. If the content is longer than the reserved space, returns an error.
    pub(in crate::layout) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        for piece in pieces {
            let position = self.start + self.written;
            self.written += piece.len() as u64;
            if self.written > self.length {
                let (actual, expected) = (self.written, self.length);
                return Err(Fault::Length { path: self.path.clone(), actual, expected });
            }
            self.file.write_all_at(piece, position).map_err(Fault::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Adds the written content as a member. `name` has at most [`MAX_OWN_NAME`] bytes. If the content is shorter than
    /// the reserved space, returns an error.
    pub(in crate::layout) fn commit(mut self, name: &str) -> Result<(), Fault> {
        if self.written != self.length {
            let (actual, expected) = (self.written, self.length);
            return Err(Fault::Length { path: self.path.clone(), actual, expected });
        }
        debug_assert!(name.len() <= MAX_OWN_NAME, "the headers must fit in the reserved space");
        let shared = Arc::clone(&self.staging);
        let mut staging = shared.lock();
        let Some(staging) = staging.as_mut().filter(|staging| self.is_in(staging)) else {
            return Err(not_started(&self.path));
        };
        staging.add_member(name, &headers(name, self.length), self.start, self.length)?;
        staging.open_regions -= 1;
        self.is_committed = true;
        Ok(())
    }

    /// Returns true if the region is in this new file.
    fn is_in(&self, staging: &Staging) -> bool {
        Arc::ptr_eq(&self.file, &staging.file)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        let shared = Arc::clone(&self.staging);
        if let Some(staging) = shared.lock().as_mut().filter(|staging| self.is_in(staging)) {
            staging.open_regions -= 1;
            staging.has_gaps = true;
        }
    }
}

/// Returns the error for a write without a new file.
pub(super) fn not_started(archive: &Path) -> Fault {
    Fault::NotStarted { path: archive.to_owned() }
}

fn open_folder(path: &Path) -> Result<Folder, Fault> {
    Folder::root(path)?.ok_or_else(|| Fault::io("open", path)(Errno::NOENT.into()))
}

/// Returns the path of the new file of an archive.
pub(super) fn new_path(archive: &Path) -> PathBuf {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    archive.with_file_name(hidden_name(&name, "new"))
}

/// Returns the name of a new file or a copy beside the archive: `.x.tar.transship-new` for the archive `x.tar`.
fn hidden_name(archive: &str, kind: &str) -> String {
    format!(".{archive}.transship-{kind}")
}

/// Returns the name of an archive.
fn file_name(archive: &Path) -> Result<&str, Fault> {
    let unnamed = || {
        let reason = "is not the path of an archive: name a file, for example mirror.tar".to_owned();
        Fault::Shape { path: archive.to_owned(), reason }
    };
    archive.file_name().and_then(|name| name.to_str()).ok_or_else(unnamed)
}

/// Returns the folder of a file.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn padded(length: u64) -> u64 {
    length.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Returns the headers of a member. An extension header states the name, because the name can be longer than the name
/// field of a header. For every name of at most [`MAX_OWN_NAME`] bytes, the headers have [`HEADERS`] bytes. So the
/// space for the headers can be reserved before the name is known.
fn headers(name: &str, length: u64) -> Vec<u8> {
    let mut bytes = header(b"././@LongLink", EntryType::GNULongName, name.len() as u64 + 1).as_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    let short = &name.as_bytes()[..name.len().min(99)];
    bytes.extend_from_slice(header(short, EntryType::Regular, length).as_bytes());
    bytes
}

/// Returns a header with fixed mode, owner and time. So the header depends only on the arguments.
fn header(name: &[u8], kind: EntryType, length: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_long_name_fill_three_blocks() {
        for name in [format!("blobs/sha512/{}", "a".repeat(128)), "a".repeat(MAX_OWN_NAME)] {
            assert_eq!(headers(&name, 9 << 30).len() as u64, HEADERS);
            let header = Header::from_byte_slice(&headers(&name, 9 << 30)[2 * BLOCK as usize..]).clone();
            assert_eq!(header.entry_size().unwrap(), 9 << 30, "more than eight gibibytes");
        }
    }

    #[test]
    fn new_file_is_beside_its_archive_and_hidden() {
        assert_eq!(new_path(Path::new("/srv/a.tar")), Path::new("/srv/.a.tar.transship-new"));
        assert_eq!(new_path(Path::new("a.tar")), Path::new(".a.tar.transship-new"));
        assert_eq!(parent(Path::new("a.tar")), Path::new("."));
        assert!(file_name(Path::new("/")).unwrap_err().to_string().contains("name a file"));
    }
}
