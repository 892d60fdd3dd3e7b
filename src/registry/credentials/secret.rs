//! A secret that the configuration holds or names the file of.

use secrecy::{ExposeSecret as _, SecretString};

use crate::registry::Secret;
use crate::registry::auth::AuthError;

/// Reads a secret, from its file each time: it may have been renewed. `what` is for the error: "the password of me".
pub(super) async fn read(what: &str, secret: &Secret) -> Result<SecretString, AuthError> {
    let path = match secret {
        Secret::Value(value) => return Ok(value.clone()),
        Secret::File(path) => path,
    };
    let failed = |reason: &str| AuthError::denied(format!("{what} cannot be read from {}: {reason}", path.display()));
    let text = tokio::fs::read_to_string(path).await.map_err(|error| failed(&error.to_string()))?;
    let text = without_line_break(&text);
    if text.is_empty() { Err(failed("it is empty")) } else { Ok(text.into()) }
}

impl Secret {
    /// Its text, from its file each time: it may have been renewed.
    ///
    /// # Errors
    /// Where the file cannot be read, or is empty.
    pub async fn reveal(&self) -> std::io::Result<SecretString> {
        let path = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::File(path) => path,
        };
        let text = tokio::fs::read_to_string(path).await?;
        match without_line_break(&text) {
            "" => Err(std::io::Error::other("it is empty")),
            text => Ok(text.into()),
        }
    }

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
