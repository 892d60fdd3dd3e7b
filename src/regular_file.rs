//! Functions that read files of users and other programs: regular files only, up to a maximum size.
//!
//! The functions follow symbolic links, because Kubernetes mounts configurations and secrets as links. The functions
//! refuse these files:
//!
//! - a pipe, which would block its reader;
//! - a device, which can have no end;
//! - a file of more than the maximum size.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading. Blocks on the file system, but never on a pipe or a device.
///
/// # Errors
/// Errors of the system, and [`io::ErrorKind::InvalidInput`] for any other file type: `a pipe, not a regular file`.
pub fn open(path: &Path) -> io::Result<File> {
    // Check the type before the file is opened, because opening a device can have side effects.
    check(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking()).open(path)?;
    // Check the type of the open file, because another process may have replaced the file since the first check.
    check(&file.metadata()?)?;
    Ok(file)
}

/// Reads a whole regular file. Blocks.
///
/// # Errors
/// Errors of [`open`], and [`io::ErrorKind::FileTooLarge`] for a file of more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {}", size(limit)));
    if file.metadata()?.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Checks that a file is regular, or does not exist.
///
/// # Errors
/// Errors of [`open`].
pub fn expect_regular(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(file) => check(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the flag of `open` that prevents a wait for the other end of a pipe.
fn nonblocking() -> i32 {
    i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default()
}

fn check(file: &Metadata) -> io::Result<()> {
    let kind = file.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{found}, not a regular file")))
}

fn size(bytes: u64) -> String {
    if bytes >= 1 << 20 { format!("{}MiB", bytes >> 20) } else { format!("{}KiB", bytes >> 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        read(path, 1 << 20).unwrap_err().to_string()
    }

    #[test]
    fn pipes_devices_sockets_and_folders_are_rejected_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(refusal(&pipe), "a pipe, not a regular file");
        assert_eq!(refusal(&socket), "a socket, not a regular file");
        assert_eq!(refusal(Path::new("/dev/zero")), "a device, not a regular file");
        assert_eq!(refusal(folder.path()), "a directory, not a regular file");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("pipe", &link).unwrap();
        assert_eq!(refusal(&link), "a pipe, not a regular file");
        assert_eq!(expect_regular(&link).unwrap_err().to_string(), "a pipe, not a regular file");
        expect_regular(&folder.path().join("nothing")).unwrap();
    }

    #[test]
    fn file_over_the_limit_is_rejected_by_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        File::create(&path).unwrap().set_len(3 << 30).unwrap();
        assert_eq!(refusal(&path), "larger than 1MiB");
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read(&path, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(read(&path, 1 << 10).unwrap_err().to_string(), "larger than 1KiB");
    }
}
