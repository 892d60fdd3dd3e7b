//! File of the control socket. Only the owner and the group of the file can use the socket. If the path has a file that
//! is not a socket, the daemon does not replace the file. At shutdown, the daemon removes the socket.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

/// Mode of the socket's file. A user with write permission for the file can send requests. The group of the file is the
/// group of the daemon's process.
const MODE: u32 = 0o660;
/// Mode of a folder that is created for the socket.
const FOLDER_MODE: u32 = 0o750;
/// Maximum time to wait for other daemons that create a socket in the same folder.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between two attempts to lock the folder.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Listening socket. Dropping the socket removes its file.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode number of the socket's file. The drop removes the file only if the file still has these
    /// numbers.
    file: (u64, u64),
}

/// Reason why the socket could not be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon listens at this path.
    #[error("another daemon listens at {}: set `daemon.control` to another path or to `off`", path.display())]
    Taken {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The path exists and is not a socket.
    #[error(
        "{} exists and is not a socket, so it is not replaced: set `daemon.control` to another path",
        path.display()
    )]
    Foreign {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The folder or the socket cannot be created.
    #[error("cannot create the control socket {}: {source}", path.display())]
    Unmade {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl Socket {
    /// Listens at `path`, with mode 0660. Creates a missing folder with mode 0750. Replaces a socket at which no
    /// process listens. Waits at most ten seconds for other processes that create a socket in this folder.
    ///
    /// # Errors
    /// [`SocketError`] if a daemon listens at `path`, if `path` exists and is not a socket, or if the operating system
    /// refuses.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let unmade = |source| SocketError::Unmade { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(unmade)?;
        // This function holds the lock until the new socket listens. So if two daemons start at the same time, the
        // second daemon finds a socket that listens.
        let _lock = lock_folder(folder).await.map_err(unmade)?;
        remove_abandoned_socket(path).await?;
        let listener = UnixListener::bind(path).map_err(unmade)?;
        // Before this call, the mode depends on the umask. No usual umask permits other users to write.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(unmade)?;
        let file = identity(path).map_err(unmade)?;
        Ok(Self { listener, path: path.to_owned(), file })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|current| current == self.file) {
            // If the removal fails, the next daemon replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the device and inode number of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Locks a folder until the caller drops the returned file. A daemon creates or replaces a socket in the folder only
/// under this lock.
async fn lock_folder(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > end => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its folder is locked by another process"));
            }
            Err(TryLockError::WouldBlock) => sleep(LOCK_POLL_INTERVAL).await,
        }
    }
}

/// Removes a socket at which no process listens. Does not follow a symbolic link at the path.
async fn remove_abandoned_socket(path: &Path) -> Result<(), SocketError> {
    let unmade = |source| SocketError::Unmade { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unmade(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::Foreign { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(unmade),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(unmade(error)),
        // With any other result, a daemon can still listen. For example, its queue of new connections is full.
        _ => Err(SocketError::Taken { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn socket_is_private_to_owner_and_group_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transship/control.sock");
        let socket = Socket::bind(&path).await.unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o750));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn abandoned_socket_is_replaced_and_live_socket_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _listening = Socket::bind(&path).await.unwrap();
        let refused = Socket::bind(&path).await.unwrap_err();
        let expected =
            format!("another daemon listens at {}: set `daemon.control` to another path or to `off`", path.display());
        assert_eq!(refused.to_string(), expected);
        assert!(UnixStream::connect(&path).await.is_ok(), "the first socket still accepts connections");
    }

    #[tokio::test]
    async fn only_one_of_two_daemons_replaces_an_abandoned_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (first, second) = tokio::join!(Socket::bind(&path), Socket::bind(&path));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    }

    #[tokio::test]
    async fn other_file_at_the_path_is_neither_replaced_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("control.sock"), folder.path().join("kept"));
        std::os::unix::fs::symlink(&kept, &path).unwrap();
        let refused = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(refused, SocketError::Foreign { .. }), "{refused}");
        fs::remove_file(&path).unwrap();
        let socket = Socket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
