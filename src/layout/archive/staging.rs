//! New file of an archive: a tar file whose members are written concurrently, each into space that is reserved for it.

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

/// Bytes for the header of a member whose name has at most [`MAX_OWN_NAME`] bytes, and for the extension with the name:
/// the extension's header, the name and the member's own header.
const HEADERS: u64 = 3 * BLOCK;
/// Maximum length of the name of a member that transship adds, in bytes.
const MAX_OWN_NAME: usize = BLOCK as usize - 1;
/// Zero bytes at the end of an archive.
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
    /// State of the archive from which the new file was started; `None` if there was none.
    base: Option<FileStamp>,
    members: HashMap<String, Span>,
    index: Bytes,
    /// Position after the last reserved byte.
    end: u64,
    /// Number of regions that are neither committed nor dropped.
    open_regions: usize,
    /// True if the file has bytes that belong to no member.
    has_gaps: bool,
    is_published: bool,
}

impl Staging {
    /// Creates the new file of the archive with this path, and removes the file that a killed process left. Returns
    /// `None` if another process has locked the file. Follows no link at the path.
    pub(super) fn start(archive: &Path) -> Result<Option<Self>, Fault> {
        let folder = open_folder(parent(archive))?;
        let name = file_name(archive)?;
        Self::create(folder, hidden_name(name, "new"), name.to_owned())
    }

    fn create(folder: Folder, name: String, archive: String) -> Result<Option<Self>, Fault> {
        let is_locked = |file: &File| match file.try_lock() {
            // Another process may have published or removed the file before this process locked it.
            Ok(()) => Ok(folder.names_file(&name, file)),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(Fault::io("lock", &folder.path().join(&name))(error)),
        };
        // The file of a killed process is not written: its name may also be a link to a file of somebody else.
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

    /// Gives the new file the mode of the archive that it replaces.
    pub(super) fn copy_mode(&self, archive: &File) -> Result<(), Fault> {
        let mode = archive.metadata().and_then(|old| self.file.set_permissions(old.permissions()));
        mode.map_err(Fault::io("set the mode of", &self.path()))
    }

    /// Sets the state of the archive from which the new file was started.
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

    /// Returns true if the file has nothing but complete members.
    pub(super) fn is_compact(&self) -> bool {
        !self.has_gaps && self.open_regions == 0
    }

    /// Returns true if an upload is in progress.
    pub(super) fn has_open_regions(&self) -> bool {
        self.open_regions > 0
    }

    /// Reserves space for headers and for content of `length` bytes, and returns the position of the headers.
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

    /// Writes the headers of a member whose content is complete. `start` is the position of the content.
    fn add_member(&mut self, name: &str, headers: &[u8], start: u64, length: u64) -> Result<(), Fault> {
        let written = self.file.write_all_at(headers, start - headers.len() as u64);
        written.map_err(Fault::io("write", &self.path()))?;
        self.has_gaps |= self.members.insert(name.to_owned(), Span { start, length }).is_some();
        Ok(())
    }

    /// Refuses to replace an archive that another program has changed since the new file was started: the new file does
    /// not have the tags of that program.
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

    /// Adds the last members, makes the file durable and renames it to the archive. The rename itself is durable after
    /// [`Self::sync`].
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

    /// Publishes a copy of the complete members. The new file stays as it is.
    pub(super) fn publish_copy(&mut self) -> Result<(), Fault> {
        let path = self.folder.path().join(&self.archive);
        let folder = open_folder(self.folder.path())?;
        let copy = Self::create(folder, hidden_name(&self.archive, "copy"), self.archive.clone())?;
        let mut copy = copy.ok_or_else(|| Fault::Locked { path: path.clone(), seconds: 0 })?;
        // The last members of an earlier attempt are replaced.
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

/// Space for one member, which its writer fills. Dropping the value without a commit leaves a gap.
#[derive(Debug)]
pub(in crate::layout) struct Region {
    staging: Arc<Mutex<Option<Staging>>>,
    /// The new file. The writes may have ended, and new writes may have started a further file.
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

    /// Writes the next pieces. More bytes than reserved are refused, because they would overwrite the next member.
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

    /// Adds the member under its name, which has at most [`MAX_OWN_NAME`] bytes.
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

/// Returns the fault of a write to an archive before [`Staging::start`].
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

/// Returns the name of a file of this kind beside the archive.
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

/// Returns the headers of a member. The name is in an extension, because it may be longer than the field for a name.
/// The headers of a name of up to [`MAX_OWN_NAME`] bytes fill [`HEADERS`] bytes, so that their space can be reserved
/// before the name is known.
fn headers(name: &str, length: u64) -> Vec<u8> {
    let mut bytes = header(b"././@LongLink", EntryType::GNULongName, name.len() as u64 + 1).as_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    let short = &name.as_bytes()[..name.len().min(99)];
    bytes.extend_from_slice(header(short, EntryType::Regular, length).as_bytes());
    bytes
}

/// Returns a header that is the same at all times and for all users.
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
