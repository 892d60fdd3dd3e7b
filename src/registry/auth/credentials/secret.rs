//! Reader of a secret that is in the configuration itself, or in a file that the configuration names.

use std::io;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::registry::Secret;
use crate::registry::auth::error::AuthError;
use crate::regular_file;

impl Secret {
    /// Returns the current value. A file is read at each call, because the secret may have been renewed.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is empty. The error does not name the file.
    pub async fn read(&self) -> io::Result<SecretString> {
        let path = match self {
            Self::Value(value) | Self::Variable { value, .. } => return Ok(value.clone()),
            Self::File(path) => path,
        };
        let text = read_text(path).await?;
        let text = without_line_break(&text);
        if text.is_empty() { Err(io::Error::other("the file is empty")) } else { Ok(text.into()) }
    }
}

/// Largest file with a secret, in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Reads the text of a small regular file, on a thread that may block. An error contains neither the name nor the
/// content of the file.
pub(super) async fn read_text(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || regular_file::read(&path, MAX_FILE)).await;
    let bytes = read.map_err(|_| io::Error::other("the program is ending"))??;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8 text"))
}

/// Reads a secret. `what` describes the secret in an error message, for example "the password of me".
pub(super) async fn read(what: &str, secret: &Secret) -> Result<SecretString, AuthError> {
    secret.read().await.map_err(|error| match secret {
        Secret::File(path) => AuthError::denied(format!("{what} cannot be read from {}: {error}", path.display())),
        Secret::Value(_) | Secret::Variable { .. } => AuthError::denied(format!("{what} cannot be read: {error}")),
    })
}

impl Secret {
    /// Returns the length of a secret in bytes; `None` if the secret is in a file.
    #[must_use]
    pub fn known_length(&self) -> Option<usize> {
        self.known().map(|value| value.expose_secret().len())
    }
}

/// Returns a text without the last line break, if the text ends with one.
pub(super) fn without_line_break(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}
