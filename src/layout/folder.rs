//! Open folder of a layout, and access to its files by name. Symbolic links below the layout's root are not followed.
//!
//! A layout may come from a medium that somebody else wrote. In such a layout, a link in place of `blobs` or of the
//! lock file could redirect every write out of the layout, and a pipe would block a reader. So this module opens every
//! folder relative to its parent, refuses links with an error that names the link, and opens only regular files. The
//! root itself may be a link, because the operator chose the path of the root. The root of a layout in a tree is the
//! folder of the tree.

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

/// Prefix of the names of all files that only transship uses.
pub(super) const FILE_PREFIX: &str = ".transship";
/// Flags for opening a folder.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Flags for opening a file, besides the access mode.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Open folder. The value refers to the same folder even if the folder is renamed or its path is replaced.
#[derive(Debug)]
pub(super) struct Folder {
    open: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the layout's own folder; `None` if it does not exist. Follows links.
    pub(super) fn root(path: &Path) -> Result<Option<Self>, Fault> {
        match fs::openat(CWD, path, FOLDER, Mode::empty()) {
            Ok(open) => Ok(Some(Self { open, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Fault::io("open", path)(error.into())),
        }
    }

    /// Opens a folder in which renames succeed and cannot be made durable.
    #[cfg(test)]
    pub(super) fn without_sync(path: &Path) -> Self {
        let open = fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Self { open: open.expect("the folder exists"), path: path.to_owned() }
    }

    /// Returns the path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder inside this folder; `None` if it does not exist.
    pub(super) fn folder(&self, name: impl AsRef<Path>) -> Result<Option<Self>, Fault> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.open, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(open) => Ok(Some(Self { open, path })),
            Err(Errno::NOENT) => Ok(None),
            // For a link, the operating system returns either of these errors, depending on its version.
            Err(Errno::LOOP | Errno::NOTDIR) => Err(match self.kind_of(name)? {
                Some((FileType::Symlink, _)) => Fault::Link { path },
                _ => Fault::NotFolder { path },
            }),
            Err(error) => Err(Fault::io("open", &path)(error.into())),
        }
    }

    /// Opens a folder inside this folder. A missing folder is created, durably.
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

    /// Returns the metadata of a regular file in this folder without opening it; `None` if nothing has this name.
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

    /// Opens a regular file for reading and returns it with its length in bytes; `None` if it does not exist.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<(File, u64)>, Fault> {
        // The type is checked before the file is opened, because opening a device can have side effects.
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        self.open_as(name, OFlags::RDONLY)
    }

    /// Opens a regular file for writing without truncating it; `None` if it does not exist.
    pub(super) fn open_to_write(&self, name: &str) -> Result<Option<File>, Fault> {
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        Ok(self.open_as(name, OFlags::WRONLY)?.map(|(file, _)| file))
    }

    /// Opens a regular file for writing, and creates it if it is missing.
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
            // This is the error for opening a pipe without a reader.
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

    /// Moves a file to a name in another folder of the layout. Replaces any file or link that has that name.
    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), Fault> {
        let renamed = fs::renameat(&self.open, name, &to.open, new);
        renamed.map_err(|error| Fault::io("replace", &to.path.join(new))(error.into()))
    }

    /// Removes a file, or a link itself. Returns true if it existed.
    pub(super) fn remove(&self, name: &str) -> Result<bool, Fault> {
        match fs::unlinkat(&self.open, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Fault::io("remove", &self.path.join(name))(error.into())),
        }
    }

    /// Returns the names of the folder's contents.
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

    /// Makes renames in this folder durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        fs::fsync(&self.open).map_err(|error| Fault::io("sync", &self.path)(error.into()))
    }
}

/// Creates the layout's own folder and its parents, each durable before the next. Follows links: the operator chose
/// them.
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

/// Makes renames in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Fault::io("sync", path))
}

/// Replaces a file of the layout's folder: writes a new file, syncs it, renames it over the old one. The caller must
/// hold the lock: all writers use one name for the new file, so the next writer overwrites the file that a killed
/// writer left.
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
