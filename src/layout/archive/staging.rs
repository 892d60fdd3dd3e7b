//! New file of an archive: a tar file whose members are written concurrently, each into space that is reserved for it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tar::{EntryType, Header};

use super::members::{BLOCK, INDEX, Span};
use crate::layout::content::Content;
use crate::layout::fault::Fault;
use crate::layout::folder::sync_folder;
use crate::layout::version::VERSION;

/// Bytes for the header of a member and for the extension with a long name: the extension's header, the name and the
/// member's own header.
const HEADERS: u64 = 3 * BLOCK;
/// Zero bytes at the end of an archive.
const END: u64 = 2 * BLOCK;
/// Number of bytes that are copied at a time.
const COPIED_AT_ONCE: usize = 1 << 20;

/// New file of an archive. Dropping the value removes the file, unless the file was published.
#[derive(Debug)]
pub(super) struct Staging {
    file: Arc<File>,
    path: PathBuf,
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
    /// Creates the new file beside the archive, or overwrites the file that a killed process left. Returns `None` if
    /// another process has locked the file.
    pub(super) fn start(archive: &Path) -> Result<Option<Self>, Fault> {
        Self::create(new_path(archive))
    }

    fn create(path: PathBuf) -> Result<Option<Self>, Fault> {
        let failed = |doing| Fault::io(doing, &path);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed("create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        // Another process may have published or removed the file before this process locked it.
        let (opened, named) = (file.metadata().map_err(failed("open"))?, fs::metadata(&path).ok());
        if named.is_none_or(|named| (named.dev(), named.ino()) != (opened.dev(), opened.ino())) {
            return Ok(None);
        }
        file.set_len(0).map_err(failed("write"))?;
        Ok(Some(Self {
            file: Arc::new(file),
            path,
            members: HashMap::new(),
            index: Bytes::new(),
            end: 0,
            open_regions: 0,
            has_gaps: false,
            is_published: false,
        }))
    }

    /// Gives the new file the mode of the archive that it replaces.
    pub(super) fn copy_mode(&self, archive: &File) -> Result<(), Fault> {
        let mode = archive.metadata().and_then(|old| self.file.set_permissions(old.permissions()));
        mode.map_err(Fault::io("set the mode of", &self.path))
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

    /// Reserves space for a member of `length` bytes, and returns the position of its headers.
    fn reserve(&mut self, length: u64) -> u64 {
        let start = self.end;
        self.end = start.saturating_add(HEADERS).saturating_add(padded(length));
        start
    }

    /// Adds a copy of content as a member.
    pub(super) fn copy(&mut self, name: &str, content: &Content) -> Result<(), Fault> {
        let (start, length) = (self.reserve(content.length()), content.length());
        let (mut piece, mut copied, mut reader) = (vec![0; COPIED_AT_ONCE], 0, content.reader());
        loop {
            let read = reader.read(&mut piece).map_err(Fault::io("copy to", &self.path))?;
            if read == 0 {
                break;
            }
            let written = self.file.write_all_at(&piece[..read], start + HEADERS + copied);
            written.map_err(Fault::io("write", &self.path))?;
            copied += read as u64;
        }
        if copied != length {
            return Err(Fault::Length { path: self.path.clone(), actual: copied, expected: length });
        }
        self.add_member(name, start, length)
    }

    /// Writes the headers of a member whose content is complete.
    fn add_member(&mut self, name: &str, start: u64, length: u64) -> Result<(), Fault> {
        let headers = headers(name, length);
        self.file.write_all_at(&headers, start).map_err(Fault::io("write", &self.path))?;
        let span = Span { start: start + HEADERS, length };
        self.has_gaps |= self.members.insert(name.to_owned(), span).is_some();
        Ok(())
    }

    /// Adds the last members, makes the file durable and renames it to the archive.
    pub(super) fn finish(&mut self, archive: &Path) -> Result<(), Fault> {
        let last = [(VERSION, Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#)), (INDEX, self.index.clone())];
        for (name, bytes) in last {
            self.copy(name, &Content::Memory(bytes))?;
        }
        let written = self.file.set_len(self.end + END).and_then(|()| self.file.sync_all());
        written.map_err(Fault::io("write", &self.path))?;
        fs::rename(&self.path, archive).map_err(Fault::io("replace", archive))?;
        self.is_published = true;
        sync_folder(parent(archive))
    }

    /// Publishes a copy of the complete members. The new file stays as it is.
    pub(super) fn publish_copy(&self, archive: &Path) -> Result<(), Fault> {
        let path = beside(archive, "copy");
        let busy = || Fault::Locked { path: path.clone(), seconds: 0 };
        let mut copy = Self::create(path.clone())?.ok_or_else(busy)?;
        for name in self.members.keys() {
            if let Some(content) = self.open(name) {
                copy.copy(name, &content)?;
            }
        }
        copy.copy_mode(&self.file)?;
        copy.set_index(self.index.clone());
        copy.finish(archive)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_published {
            // If the file cannot be removed now, the next writer overwrites it.
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Space for one member, which its writer fills. Dropping the value without a commit leaves a gap.
#[derive(Debug)]
pub(in crate::layout) struct Region {
    staging: Arc<Mutex<Option<Staging>>>,
    file: Arc<File>,
    path: PathBuf,
    start: u64,
    length: u64,
    written: u64,
    is_committed: bool,
}

impl Region {
    pub(super) fn new(shared: Arc<Mutex<Option<Staging>>>, staging: &mut Staging, length: u64) -> Self {
        let start = staging.reserve(length);
        staging.open_regions += 1;
        let (file, path) = (Arc::clone(&staging.file), staging.path.clone());
        Self { staging: shared, file, path, start, length, written: 0, is_committed: false }
    }

    /// Writes the next pieces. More bytes than reserved are refused, because they would overwrite the next member.
    pub(in crate::layout) fn write(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        for piece in pieces {
            let position = self.start + HEADERS + self.written;
            self.written += piece.len() as u64;
            if self.written > self.length {
                let (actual, expected) = (self.written, self.length);
                return Err(Fault::Length { path: self.path.clone(), actual, expected });
            }
            self.file.write_all_at(piece, position).map_err(Fault::io("write", &self.path))?;
        }
        Ok(())
    }

    /// Adds the member under its name.
    pub(in crate::layout) fn commit(mut self, name: &str) -> Result<(), Fault> {
        if self.written != self.length {
            let (actual, expected) = (self.written, self.length);
            return Err(Fault::Length { path: self.path.clone(), actual, expected });
        }
        let shared = Arc::clone(&self.staging);
        let mut staging = shared.lock();
        let Some(staging) = staging.as_mut() else { return Err(not_started(&self.path)) };
        staging.add_member(name, self.start, self.length)?;
        staging.open_regions -= 1;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        if let Some(staging) = self.staging.lock().as_mut() {
            staging.open_regions -= 1;
            staging.has_gaps = true;
        }
    }
}

/// Returns the fault of a write to an archive before [`Staging::start`].
pub(super) fn not_started(archive: &Path) -> Fault {
    Fault::io("write", archive)(std::io::ErrorKind::NotFound.into())
}

/// Returns the path of the new file of an archive.
pub(super) fn new_path(archive: &Path) -> PathBuf {
    beside(archive, "new")
}

/// Returns the path of a file of this kind beside the archive.
fn beside(archive: &Path, kind: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(archive.file_name().unwrap_or_default());
    name.push(format!(".transship-{kind}"));
    archive.with_file_name(name)
}

/// Returns the folder of a file.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn padded(length: u64) -> u64 {
    length.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Returns the headers of a member: always [`HEADERS`] bytes, so that the space can be reserved before the name is
/// known. The name is in an extension, because the digest of a blob may be longer than the field for a name.
fn headers(name: &str, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADERS as usize);
    bytes.extend_from_slice(header("././@LongLink", EntryType::GNULongName, name.len() as u64 + 1).as_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.resize(2 * BLOCK as usize, 0);
    let short = &name[..name.len().min(99)];
    bytes.extend_from_slice(header(short, EntryType::Regular, length).as_bytes());
    bytes
}

/// Returns a header that is the same at all times and for all users.
fn header(name: &str, kind: EntryType, length: u64) -> Header {
    let mut header = Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
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
        let name = format!("blobs/sha512/{}", "a".repeat(128));
        assert_eq!(headers(&name, 9 << 30).len() as u64, HEADERS);
        let header = Header::from_byte_slice(&headers(&name, 9 << 30)[2 * BLOCK as usize..]).clone();
        assert_eq!(header.entry_size().unwrap(), 9 << 30, "more than eight gibibytes");
    }

    #[test]
    fn new_file_is_beside_its_archive_and_hidden() {
        assert_eq!(beside(Path::new("/srv/a.tar"), "new"), Path::new("/srv/.a.tar.transship-new"));
        assert_eq!(beside(Path::new("a.tar"), "new"), Path::new(".a.tar.transship-new"));
        assert_eq!(parent(Path::new("a.tar")), Path::new("."));
    }
}
