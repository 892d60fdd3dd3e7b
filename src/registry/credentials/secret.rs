//! A secret that the configuration holds or names the file of.

use secrecy::SecretString;

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

/// A text without one line break at its end.
pub(super) fn without_line_break(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}
