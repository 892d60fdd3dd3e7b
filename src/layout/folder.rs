//! One open folder of a layout, and the files in it by name: no symbolic link is followed below the layout's root.
//!
//! A layout may come from a medium that somebody else wrote. A link in it, `blobs` or the lock file, could lead every write
//! out of the layout, and a pipe would keep a reader waiting. So every folder is opened from the one above it, a link is
//! refused by its name, and only regular files are opened. The root itself may be a link: the operator names it.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::fault::Fault;

/// How a folder is opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// How a file is opened, besides for what.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A folder that stays the same one whatever becomes of its name.
#[derive(Debug)]
pub(super) struct Folder {
    open: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// The layout's own folder; `None` where there is none. Links are followed.
    pub(super) fn root(path: &Path) -> Result<Option<Self>, Fault> {
        match fs::openat(CWD, path, FOLDER, Mode::empty()) {
            Ok(open) => Ok(Some(Self { open, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fault::io("open", path)(error.into())),
        }
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in this one; `None` where there is none.
    pub(super) fn folder(&self, name: &str) -> Result<Option<Self>, Fault> {
        let path = self.path.join(name);
        match fs::openat(&self.open, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(open) => Ok(Some(Self { open, path })),
            Err(Errno::NOENT) => Ok(None),
            // The system says either of a link, depending on its version.
            Err(Errno::LOOP | Errno::NOTDIR) => Err(match self.kind_of(name)? {
                Some((FileType::Symlink, _)) => Fault::Link { path },
                _ => Fault::NotFolder { path },
            }),
            Err(error) => Err(Fault::io("open", &path)(error.into())),
        }
    }

    /// The same, made and durable where it is missing.
    pub(super) fn make_folder(&self, name: &str) -> Result<Self, Fault> {
        if let Some(there) = self.folder(name)? {
            return Ok(there);
        }
        match fs::mkdirat(&self.open, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Fault::io("create", &self.path.join(name))(error.into())),
        }
        self.folder(name)?.ok_or_else(|| Fault::NotFolder { path: self.path.join(name) })
    }

    /// What is known of a regular file in this folder without opening it; `None` where there is nothing of this name.
    pub(super) fn regular(&self, name: &str) -> Result<Option<Stat>, Fault> {
        match self.kind_of(name)? {
            None => Ok(None),
            Some((FileType::RegularFile, file)) => Ok(Some(file)),
            Some((FileType::Symlink, _)) => Err(Fault::Link { path: self.path.join(name) }),
            Some(_) => Err(Fault::NotRegular { path: self.path.join(name) }),
        }
    }

    fn kind_of(&self, name: &str) -> Result<Option<(FileType, Stat)>, Fault> {
        match fs::statat(&self.open, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(file) => Ok(Some((FileType::from_raw_mode(file.st_mode), file))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fault::io("look at", &self.path.join(name))(error.into())),
        }
    }

    /// Opens a regular file for reading, with its length in bytes; `None` where there is none.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<(File, u64)>, Fault> {
        // Looked at before it is opened: opening a device can have an effect.
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        self.open_as(name, OFlags::RDONLY)
    }

    /// Opens a regular file for writing, as it is; `None` where there is none.
    pub(super) fn open_to_write(&self, name: &str) -> Result<Option<File>, Fault> {
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        Ok(self.open_as(name, OFlags::WRONLY)?.map(|(file, _)| file))
    }

    /// Opens a regular file for writing, which is created where it is missing.
    pub(super) fn open_or_create(&self, name: &str) -> Result<File, Fault> {
        self.regular(name)?;
        let opened = self.open_as(name, OFlags::WRONLY | OFlags::CREATE)?;
        opened.map(|(file, _)| file).ok_or_else(|| Fault::Lost { path: self.path.join(name) })
    }

    fn open_as(&self, name: &str, flags: OFlags) -> Result<Option<(File, u64)>, Fault> {
        let path = self.path.join(name);
        let file: File = match fs::openat(&self.open, name, flags | FILE, Mode::from_raw_mode(0o666)) {
            Ok(open) => open.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Fault::Link { path }),
            // A pipe without a reader.
            Err(Errno::NXIO) => return Err(Fault::NotRegular { path }),
            Err(error) => return Err(Fault::io("open", &path)(error.into())),
        };
        let opened = file.metadata().map_err(Fault::io("open", &path))?;
        if !opened.is_file() {
            return Err(Fault::NotRegular { path });
        }
        Ok(Some((file, opened.len())))
    }

    /// Creates a file for writing; `None` where something has this name.
    pub(super) fn create_new(&self, name: &str) -> Result<Option<File>, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE;
        match fs::openat(&self.open, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(open) => Ok(Some(open.into())),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(Fault::io("create", &self.path.join(name))(error.into())),
        }
    }

    /// Moves a file to a name in another folder of the layout, and replaces what has that name, be it a link.
    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), Fault> {
        let renamed = fs::renameat(&self.open, name, &to.open, new);
        renamed.map_err(|error| Fault::io("replace", &to.path.join(new))(error.into()))
    }

    /// Removes a file, or a link itself; says whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, Fault> {
        match fs::unlinkat(&self.open, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Fault::io("remove", &self.path.join(name))(error.into())),
        }
    }

    /// The names of what is in it.
    pub(super) fn names(&self) -> Result<Vec<OsString>, Fault> {
        let failed = |error: Errno| Fault::io("list", &self.path)(error.into());
        let mut names = Vec::new();
        for file in Dir::read_from(&self.open).map_err(failed)? {
            let name = file.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Makes renames in it durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        fs::fsync(&self.open).map_err(|error| Fault::io("sync", &self.path)(error.into()))
    }
}
