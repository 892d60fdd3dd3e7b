//! Reads secrets that are in the configuration itself, or in files that the configuration names.

use std::io;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::registry::Secret;
use crate::registry::auth::error::AuthError;
use crate::regular_file;

impl Secret {
    /// Returns the current value. If the secret is in a file, each call reads the file again, because the secret can
    /// change.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is empty. The error does not name the file.
    pub async fn read(&self) -> io::Result<SecretString> {
        match self {
            Self::Value(value) | Self::Variable { value, .. } => Ok(value.clone()),
            Self::File(path) => without_line_breaks(&read_text(path).await?),
        }
    }

    /// Reads a secret from a file, without the line breaks at the end of the file. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is empty. The error does not name the file.
    pub fn read_file(path: &Path) -> io::Result<SecretString> {
        without_line_breaks(&decode(regular_file::read(path, MAX_FILE)?)?)
    }

    /// Creates a secret from the text of a configuration value or of an environment variable. Removes line breaks at
    /// the end of the text. Returns `None` if the rest is empty.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Some(Self::Value(without_line_breaks(text).ok()?))
    }
}

/// Returns a text without the line breaks at its end, as a secret. Fails if the rest is empty.
fn without_line_breaks(text: &str) -> io::Result<SecretString> {
    match trim_line_breaks(text) {
        "" => Err(io::Error::other("the file is empty")),
        secret => Ok(secret.into()),
    }
}

/// Maximum size of a file with a secret, in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Reads a regular file of at most 1 MiB ([`MAX_FILE`]) as text, on a thread for blocking work. An error contains
/// neither the name nor the content of the file.
pub(super) async fn read_text(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || regular_file::read(&path, MAX_FILE)).await;
    decode(read.map_err(|_| io::Error::other("the program is ending"))??)
}

fn decode(bytes: Vec<u8>) -> io::Result<String> {
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
    /// Returns the length of a secret in bytes. Returns `None` if the secret is in a file.
    #[must_use]
    pub fn known_length(&self) -> Option<usize> {
        self.known().map(|value| value.expose_secret().len())
    }
}

/// Returns a text without the line breaks at its end. Editors and `echo` add such line breaks.
pub(super) fn trim_line_breaks(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_at_the_end_belong_to_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (text, secret) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a"), (" a b \n", " a b "), ("a\nb\n", "a\nb")]
        {
            std::fs::write(&path, text).unwrap();
            let Some(Secret::Value(value)) = Secret::from_text(text) else { panic!("{text:?} is empty") };
            assert_eq!(value.expose_secret(), secret, "{text:?}");
            assert_eq!(Secret::read_file(&path).unwrap().expose_secret(), secret, "{text:?}");
        }
        for text in ["", "\n", "\r\n\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(Secret::from_text(text).is_none(), "{text:?}");
            assert_eq!(Secret::read_file(&path).unwrap_err().to_string(), "the file is empty", "{text:?}");
        }
    }
}
