//! What goes wrong with files, before it is told as a [`StoreError`](crate::store::StoreError) of one step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::oci::{Digest, ManifestError};
use crate::store::ErrorKind;

/// A failure at one path of a layout.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("cannot {doing} {path}: {}", plain(.source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{path}:{line}:{column}: {reason}")]
    Json { path: PathBuf, line: usize, column: usize, reason: String },
    #[error("{path}: {reason}")]
    Shape { path: PathBuf, reason: String },
    #[error("{path} is {actual} bytes, and at most {limit} are read")]
    TooLarge { path: PathBuf, actual: u64, limit: u64 },
    #[error("{path} is not a regular file: remove it")]
    NotRegular { path: PathBuf },
    #[error("{path} is a symbolic link, and none is followed within a layout: put what it points at in its place")]
    Link { path: PathBuf },
    #[error("{path} is not a folder: remove it")]
    NotFolder { path: PathBuf },
    #[error("{path} is {actual} bytes instead of {expected}")]
    Length { path: PathBuf, actual: u64, expected: u64 },
    #[error("the bytes of {path} hash to {actual}")]
    Content { path: PathBuf, actual: Digest },
    #[error("{path} has image layout version {version:?}, and only \"1.0.0\" is known")]
    Version { path: PathBuf, version: String },
    #[error("{path} holds other files and is no image layout: name an empty folder or one that does not exist")]
    Foreign { path: PathBuf },
    #[error("no image layout at {path}: it has no index.json")]
    NoLayout { path: PathBuf },
    #[error("{path} is held by another process for more than {seconds} s: wait for it or end it")]
    Locked { path: PathBuf, seconds: u64 },
    #[error("it points at {digest}, and {path} {problem}")]
    Missing { digest: Digest, path: PathBuf, problem: &'static str },
    #[error("the layout has no file {path}")]
    Lost { path: PathBuf },
    #[error("there is no such manifest")]
    NoManifest,
    #[error("{path} lists {images} under the name {name:?}: select one of them by its digest (@{first})")]
    Ambiguous { path: PathBuf, name: String, images: String, first: Box<Digest> },
    #[error("the entry {name:?} of {path} has no digest that can be read, so nothing can be copied of it")]
    NoDigest { path: PathBuf, name: String },
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("the upload is of {expected} and the bytes are of {actual}")]
    OtherBlob { expected: Box<Digest>, actual: Box<Digest> },
    #[error("an offset of {offset} in {size} bytes")]
    Offset { offset: u64, size: u64 },
    #[error("{0}")]
    Shared(Arc<Fault>),
    #[error("the program is ending")]
    Ending,
}

impl Fault {
    /// For `map_err` after an operation on `path`: `cannot DOING PATH: …`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// For `map_err` after reading JSON from `path`.
    pub(super) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| {
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
            Self::Json { path: path.to_owned(), line: error.line(), column: error.column(), reason }
        }
    }

    /// What a caller can do about it.
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
            Self::Foreign { .. } | Self::Link { .. } | Self::NotFolder { .. } | Self::Ambiguous { .. } => {
                ErrorKind::Refused
            }
            Self::NoLayout { .. } | Self::Lost { .. } | Self::NoManifest => ErrorKind::NotFound,
            Self::Locked { .. } => ErrorKind::Busy(None),
            Self::Missing { .. } => ErrorKind::MissingContent,
            Self::Shared(fault) => fault.kind(),
            Self::Ending => ErrorKind::Unavailable,
        }
    }
}

fn kind_of(kind: io::ErrorKind) -> ErrorKind {
    match kind {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::FileTooLarge => ErrorKind::Refused,
        // A full disk or quota, a device that failed: it may work later.
        _ => ErrorKind::Unavailable,
    }
}

/// The operating system's words as a fragment: `no space left on device`, without `(os error 28)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32) -> (ErrorKind, String) {
        let fault = Fault::io("write", Path::new("/srv/x/blobs/.transship-1-0"))(io::Error::from_raw_os_error(code));
        (fault.kind(), fault.to_string())
    }

    #[test]
    fn the_systems_errors_say_what_can_be_done_and_where() {
        let (kind, text) = told(28);
        assert_eq!(kind, ErrorKind::Unavailable);
        assert_eq!(text, "cannot write /srv/x/blobs/.transship-1-0: no space left on device");
        assert_eq!(told(122).0, ErrorKind::Unavailable);
        assert_eq!(told(5).0, ErrorKind::Unavailable);
        let (kind, text) = told(13);
        assert_eq!(kind, ErrorKind::Denied);
        assert_eq!(text, "cannot write /srv/x/blobs/.transship-1-0: permission denied");
        assert_eq!(told(30).0, ErrorKind::Denied);
        assert_eq!(told(2).0, ErrorKind::NotFound);
    }
}
