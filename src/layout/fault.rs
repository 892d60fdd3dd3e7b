//! Errors of operations on a layout. The layout converts each error into a [`StoreError`](crate::store::StoreError),
//! which also names the step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Digest, ManifestError};
use crate::store::ErrorKind;

/// Error of an operation on a layout.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("cannot {doing} {path}: {}", system_message(.source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {reason}")]
    Json { path: PathBuf, line: usize, column: usize, reason: String },
    #[error("{path}: {reason}")]
    Shape { path: PathBuf, reason: String },
    #[error("{path} is {actual} bytes, more than the maximum of {limit}")]
    TooLarge { path: PathBuf, actual: u64, limit: u64 },
    #[error("{path} is not a regular file: remove it")]
    NotRegular { path: PathBuf },
    #[error("{path} is a symbolic link, which transship does not follow within a layout: replace it with its target")]
    Link { path: PathBuf },
    #[error("{path} is not a folder: remove it")]
    NotFolder { path: PathBuf },
    #[error("{path} is {actual} bytes instead of {expected}")]
    Length { path: PathBuf, actual: u64, expected: u64 },
    #[error("the bytes of {path} hash to {actual}")]
    Content { path: PathBuf, actual: Digest },
    #[error("{path} has image layout version {version:?}, and only \"1.0.0\" is supported")]
    Version { path: PathBuf, version: String },
    #[error("{path} contains other files and is no image layout: name an empty folder or one that does not exist")]
    Foreign { path: PathBuf },
    #[error("no image layout at {path}: it has no index.json")]
    NoLayout { path: PathBuf },
    #[error("no OCI archive at {path}: the file does not exist, or has no index.json")]
    NoArchive { path: PathBuf },
    #[error("another process has held the lock {path} for more than {seconds} s: wait for it or stop it")]
    Locked { path: PathBuf, seconds: u64 },
    #[error("the manifest points at {digest}, but {path} {problem}")]
    Missing { digest: Digest, path: PathBuf, problem: &'static str },
    #[error("the layout has no file {path}")]
    Lost { path: PathBuf },
    #[error("the writes to {path} have ended: run again")]
    NotStarted { path: PathBuf },
    #[error(
        "another program has changed {path} while transship wrote a new archive, so the archive is not replaced: run \
         again"
    )]
    Changed { path: PathBuf },
    #[error("{path} contains {name:?}, whose name a new archive cannot have: create the archive again without it")]
    MemberName { path: PathBuf, name: String },
    #[error("there is no such manifest")]
    NoManifest,
    #[error("{path} lists {images} under the name {name:?}: select one of them by its digest (@{first})")]
    Ambiguous { path: PathBuf, name: String, images: String, first: Box<Digest> },
    #[error("the entry {name:?} of {path} has no valid digest, so it cannot be copied")]
    NoDigest { path: PathBuf, name: String },
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("the upload is for {expected}, but the bytes are of {actual}")]
    OtherBlob { expected: Box<Digest>, actual: Box<Digest> },
    #[error("offset {offset} is beyond the end of {size} bytes")]
    Offset { offset: u64, size: u64 },
    #[error("{0}")]
    Shared(Arc<Fault>),
    #[error("the program is shutting down")]
    Ending,
}

impl Fault {
    /// Returns a function for `map_err` that creates a [`Fault::Io`] with the message `cannot DOING PATH: …`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Returns the message without the path if the operating system reported the error, such as `permission denied`.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => system_message(source),
            other => other.to_string(),
        }
    }

    /// Returns a function for `map_err` that converts a JSON error of the file at `path`.
    pub(super) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| {
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
            Self::Json { path: path.to_owned(), line: error.line(), column: error.column(), reason }
        }
    }

    /// Returns the kind of the error.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => kind_of(source.kind()),
            Self::Json { .. } | Self::Shape { .. } | Self::TooLarge { .. } | Self::Manifest(_) => ErrorKind::Invalid,
            Self::Offset { .. } => ErrorKind::Invalid,
            Self::NoDigest { .. } => ErrorKind::Invalid,
            Self::NotRegular { .. } | Self::Length { .. } | Self::Content { .. } | Self::OtherBlob { .. } => {
                ErrorKind::Corrupt
            }
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Foreign { .. }
            | Self::Link { .. }
            | Self::NotFolder { .. }
            | Self::Ambiguous { .. }
            | Self::MemberName { .. } => ErrorKind::Refused,
            Self::NoLayout { .. } | Self::NoArchive { .. } | Self::Lost { .. } | Self::NoManifest => {
                ErrorKind::NotFound
            }
            Self::Locked { .. } => ErrorKind::Busy(None),
            Self::Missing { .. } => ErrorKind::MissingContent,
            Self::Shared(fault) => fault.kind(),
            Self::Ending | Self::NotStarted { .. } | Self::Changed { .. } => ErrorKind::Unavailable,
        }
    }
}

fn kind_of(kind: io::ErrorKind) -> ErrorKind {
    match kind {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::FileTooLarge => ErrorKind::Refused,
        // The cause can be, for example, a full disk, an exhausted quota or a failed device. A later attempt may
        // succeed.
        _ => ErrorKind::Unavailable,
    }
}

/// Returns the operating system's message without the error code, and with a small first letter: `permission denied`.
fn system_message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_and_message(code: i32) -> (ErrorKind, String) {
        let fault = Fault::io("write", Path::new("/srv/x/blobs/.transship-1-0"))(io::Error::from_raw_os_error(code));
        (fault.kind(), fault.to_string())
    }

    #[test]
    fn system_errors_have_kind_and_path() {
        let (kind, text) = kind_and_message(28);
        assert_eq!(kind, ErrorKind::Unavailable);
        assert_eq!(text, "cannot write /srv/x/blobs/.transship-1-0: no space left on device");
        assert_eq!(kind_and_message(122).0, ErrorKind::Unavailable);
        assert_eq!(kind_and_message(5).0, ErrorKind::Unavailable);
        let (kind, text) = kind_and_message(13);
        assert_eq!(kind, ErrorKind::Denied);
        assert_eq!(text, "cannot write /srv/x/blobs/.transship-1-0: permission denied");
        assert_eq!(kind_and_message(30).0, ErrorKind::Denied);
        assert_eq!(kind_and_message(2).0, ErrorKind::NotFound);
    }
}
