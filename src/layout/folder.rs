//! Access to the folders and files of a layout, without following symbolic links below the layout's root.
//!
//! Another person may have created the layout, for example on a USB disk. In such a layout, a link in place of `blobs`
//! could redirect every write out of the layout, and a pipe could block a reader. So this module opens every folder
//! relative to its parent, opens only regular files, and returns an error for a link.
//!
//! The root itself may be a link, because the operator chose the path of the root. For a layout in a tree, the root is
//! the folder of the tree.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::fault::Fault;

/// Prefix of the names of transship's own files, such as the lock file and temporary files.
pub(super) const FILE_PREFIX: &str = ".transship";
/// Flags for opening a folder.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Flags for opening a file, in addition to the access mode.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Open folder. If another process renames the folder or replaces its path, the value still refers to the same folder.
#[derive(Debug)]
pub(super) struct Folder {
    open: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`; `None` if the folder does not exist. Follows links.
    pub(super) fn root(path: &Path) -> Result<Option<Self>, Fault> {
        match fs::openat(CWD, path, FOLDER, Mode::empty()) {
            Ok(open) => Ok(Some(Self { open, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fault::io("open", path)(error.into())),
        }
    }

    /// Opens a folder in which renames succeed, but [`Self::sync`] fails.
    #[cfg(test)]
    pub(super) fn without_sync(path: &Path) -> Self {
        let open = fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Self { open: open.expect("the folder exists"), path: path.to_owned() }
    }

    /// Returns the path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder inside this folder; `None` if the folder does not exist. Returns an error for a link.
    pub(super) fn folder(&self, name: impl AsRef<Path>) -> Result<Option<Self>, Fault> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.open, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(open) => Ok(Some(Self { open, path })),
            Err(Errno::NOENT) => Ok(None),
            // For a link, some operating systems return `LOOP`, and others return `NOTDIR`.
            Err(Errno::LOOP | Errno::NOTDIR) => Err(match self.kind_of(name)? {
                Some((FileType::Symlink, _)) => Fault::Link { path },
                _ => Fault::NotFolder { path },
            }),
            Err(error) => Err(Fault::io("open", &path)(error.into())),
        }
    }

    /// Opens a folder inside this folder. If the folder is missing, creates the folder durably.
    pub(super) fn make_folder(&self, name: &str) -> Result<Self, Fault> {
        if let Some(existing) = self.folder(name)? {
            return Ok(existing);
        }
        match fs::mkdirat(&self.open, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Fault::io("create", &self.path.join(name))(error.into())),
        }
        self.folder(name)?.ok_or_else(|| Fault::NotFolder { path: self.path.join(name) })
    }

    /// Returns the metadata of a regular file in this folder; `None` if nothing has this name. Does not open the file.
    pub(super) fn regular(&self, name: &str) -> Result<Option<Stat>, Fault> {
        match self.kind_of(name)? {
            None => Ok(None),
            Some((FileType::RegularFile, file)) => Ok(Some(file)),
            Some((FileType::Symlink, _)) => Err(Fault::Link { path: self.path.join(name) }),
            Some(_) => Err(Fault::NotRegular { path: self.path.join(name) }),
        }
    }

    /// Returns true if this folder contains a folder of this name. A link to a folder is not a folder.
    pub(super) fn has_folder(&self, name: impl AsRef<Path>) -> Result<bool, Fault> {
        Ok(matches!(self.kind_of(name)?, Some((FileType::Directory, _))))
    }

    fn kind_of(&self, name: impl AsRef<Path>) -> Result<Option<(FileType, Stat)>, Fault> {
        let name = name.as_ref();
        match fs::statat(&self.open, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(file) => Ok(Some((FileType::from_raw_mode(file.st_mode), file))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fault::io("inspect", &self.path.join(name))(error.into())),
        }
    }

    /// Opens a regular file for reading, and returns the file with its length in bytes; `None` if the file does not
    /// exist.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<(File, u64)>, Fault> {
        // Check the type before opening the file, because opening a device can have side effects.
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        self.open_as(name, OFlags::RDONLY)
    }

    /// Opens a regular file for writing, and keeps its content; `None` if the file does not exist.
    pub(super) fn open_to_write(&self, name: &str) -> Result<Option<File>, Fault> {
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        Ok(self.open_as(name, OFlags::WRONLY)?.map(|(file, _)| file))
    }

    /// Opens a regular file for writing. If the file is missing, creates the file.
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
            // Opening a pipe that has no reader returns this error.
            Err(Errno::NXIO) => return Err(Fault::NotRegular { path }),
            Err(error) => return Err(Fault::io("open", &path)(error.into())),
        };
        let opened = file.metadata().map_err(Fault::io("open", &path))?;
        if !opened.is_file() {
            return Err(Fault::NotRegular { path });
        }
        Ok(Some((file, opened.len())))
    }

    /// Creates a file for reading and writing; `None` if something already has this name.
    pub(super) fn create_new(&self, name: &str) -> Result<Option<File>, Fault> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE;
        match fs::openat(&self.open, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(open) => Ok(Some(open.into())),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(Fault::io("create", &self.path.join(name))(error.into())),
        }
    }

    /// Returns true if the name still refers to this open file.
    pub(super) fn names_file(&self, name: &str, file: &File) -> bool {
        match (self.regular(name), file.metadata()) {
            (Ok(Some(named)), Ok(open)) => (named.st_dev, named.st_ino) == (open.dev(), open.ino()),
            _ => false,
        }
    }

    /// Moves the file `name` to the name `new` in the folder `to`. Replaces a file or link that has the name `new`.
    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), Fault> {
        let renamed = fs::renameat(&self.open, name, &to.open, new);
        renamed.map_err(|error| Fault::io("replace", &to.path.join(new))(error.into()))
    }

    /// Removes a file or a link. Does not remove the file to which a link points. Returns true if the name existed.
    pub(super) fn remove(&self, name: &str) -> Result<bool, Fault> {
        match fs::unlinkat(&self.open, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Fault::io("remove", &self.path.join(name))(error.into())),
        }
    }

    /// Returns the names of all files and folders in this folder.
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

    /// Makes all changes of names in this folder durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        fs::fsync(&self.open).map_err(|error| Fault::io("sync", &self.path)(error.into()))
    }
}

/// Creates a folder and its missing parents, durably. Follows links, because the operator chose the path.
pub(super) fn create_folder(path: &Path) -> Result<(), Fault> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent != Path::new(".") {
        create_folder(parent)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Fault::io("create", path)(error));
        }
        _ => {}
    }
    sync_folder(parent)
}

/// Makes all changes of names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Fault::io("sync", path))
}

/// Replaces a file of the layout's folder: writes a new file, syncs the new file, and renames the new file to `name`.
/// The caller must hold the lock, because all writers use the same name for the new file. If a killed writer left a new
/// file, this function removes that file first.
pub(super) fn replace(root: &Folder, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let new = format!("{FILE_PREFIX}.new");
    let path = root.path().join(&new);
    root.remove(&new)?;
    let gone = || Fault::io("create", &path)(std::io::ErrorKind::AlreadyExists.into());
    let mut file = root.create_new(&new)?.ok_or_else(gone)?;
    if let Some(old) = root.open_file(name).ok().flatten().and_then(|(old, _)| old.metadata().ok()) {
        file.set_permissions(old.permissions()).map_err(Fault::io("set the mode of", &path))?;
    }
    file.write_all(bytes).map_err(Fault::io("write", &path))?;
    file.sync_all().map_err(Fault::io("sync", &path))?;
    root.rename(&new, root, name)?;
    root.sync()
}
