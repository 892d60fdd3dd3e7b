//! The socket's file: made so that only its owner and its group may use it, never in the place of something else, and
//! removed at the end.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

/// Who may ask: whoever may write to the file. Its group is the daemon's.
const MODE: u32 = 0o660;
/// Of a folder that is made for it.
const FOLDER_MODE: u32 = 0o750;
/// How long another daemon may take to put its own socket there.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A socket that is listened at. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Which file is ours, by device and number: another one of this name is left alone.
    file: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers there.
    #[error("another daemon listens at {}: give this one a place of its own by `daemon.control`, or `off`", path.display())]
    Taken {
        /// The place.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} is there and is no socket: it is left alone, name another path by `daemon.control`", path.display())]
    Foreign {
        /// The place.
        path: PathBuf,
    },
    /// The folder or the file cannot be made.
    #[error("the control socket {} cannot be made: {source}", path.display())]
    Unmade {
        /// The place.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Socket {
    /// Listens at `path`, with mode 0660. A missing folder is made, with mode 0750. A socket that nobody listens at any more is
    /// replaced. Waits for ten seconds at most for others that do the same in this folder.
    ///
    /// # Errors
    /// [`SocketError`] where a daemon answers at `path`, or something is there that is no socket, or the system refuses.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let unmade = |source| SocketError::Unmade { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(unmade)?;
        // Held until the socket listens: of two that start at once, the second finds the first one alive.
        let _turn = turn(folder).await.map_err(unmade)?;
        make_way(path).await?;
        let listener = UnixListener::bind(path).map_err(unmade)?;
        // Until now it was what the umask leaves, which nowhere lets others write.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(unmade)?;
        let file = identity(path).map_err(unmade)?;
        Ok(Self { listener, path: path.to_owned(), file })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.file) {
            // One that stays is found abandoned and replaced by the next daemon.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The only one to change sockets in this folder, until the result is dropped.
async fn turn(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    let end = Instant::now() + TURN_WITHIN;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > end => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its folder is locked by another process"));
            }
            Err(TryLockError::WouldBlock) => sleep(LOOK_AGAIN).await,
        }
    }
}

/// Removes a socket at which nobody listens. What is there is looked at itself, not where a link leads.
async fn make_way(path: &Path) -> Result<(), SocketError> {
    let unmade = |source| SocketError::Unmade { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unmade(error)),
        Ok(there) if !there.file_type().is_socket() => return Err(SocketError::Foreign { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(unmade),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(unmade(error)),
        // One that has no room for another client lives too.
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
    async fn the_socket_is_for_its_owner_and_its_group_alone_and_goes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transship/control.sock");
        let socket = Socket::bind(&path).await.unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o750));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_abandoned_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _living = Socket::bind(&path).await.unwrap();
        let refused = Socket::bind(&path).await.unwrap_err();
        let expected = format!(
            "another daemon listens at {}: give this one a place of its own by `daemon.control`, or `off`",
            path.display()
        );
        assert_eq!(refused.to_string(), expected);
        assert!(UnixStream::connect(&path).await.is_ok(), "the first one is still there");
    }

    #[tokio::test]
    async fn of_two_that_start_at_once_over_an_abandoned_socket_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (one, other) = tokio::join!(Socket::bind(&path), Socket::bind(&path));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone_and_so_is_one_that_took_its_place() {
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
