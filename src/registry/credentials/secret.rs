//! A secret that the configuration holds or names the file of.

use std::io;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::registry::Secret;
use crate::registry::auth::AuthError;
use crate::regular_file;

impl Secret {
    /// What it says now: a file is read each time, for it may have been renewed.
    ///
    /// # Errors
    /// Where its file cannot be read or has nothing in it; the error does not name the file.
    pub async fn read(&self) -> io::Result<SecretString> {
        let path = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::File(path) => path,
        };
        let text = read_text(path).await?;
        let text = without_line_break(&text);
        if text.is_empty() { Err(io::Error::other("it is empty")) } else { Ok(text.into()) }
    }
}

/// The most bytes of a file with a secret.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// The text of a small regular file, read on a thread where that may block. The error names neither the file nor its content.
pub(super) async fn read_text(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || regular_file::read(&path, MAX_FILE)).await;
    let bytes = read.map_err(|_| io::Error::other("the program is ending"))??;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Reads a secret. `what` is for the error: "the password of me".
pub(super) async fn read(what: &str, secret: &Secret) -> Result<SecretString, AuthError> {
    secret.read().await.map_err(|error| match secret {
        Secret::File(path) => AuthError::denied(format!("{what} cannot be read from {}: {error}", path.display())),
        Secret::Value(_) => AuthError::denied(format!("{what} cannot be read: {error}")),
    })
}

impl Secret {
    /// How many bytes it has; `None` where a file would have to be read.
    #[must_use]
    pub fn known_length(&self) -> Option<usize> {
        match self {
            Self::Value(value) => Some(value.expose_secret().len()),
            Self::File(_) => None,
        }
    }
}

/// A text without one line break at its end.
pub(super) fn without_line_break(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}
