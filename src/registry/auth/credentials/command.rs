//! Credentials from a command that the operator configured.

use std::ffi::OsStr;

use super::login::Login;
use super::program::Programs;
use super::secret::trim_line_breaks;
use crate::registry::auth::error::AuthError;
use crate::store::ErrorKind;

/// Runs the command and reads its output:
///
/// * If the operator configured a user name, the output is the password.
/// * Otherwise, the output is `USER:PASSWORD`. If the output has no colon, the output is an identity token.
pub(super) async fn login(line: &[String], username: Option<&str>, programs: &Programs) -> Result<Login, AuthError> {
    let Some((program, arguments)) = line.split_first() else {
        return Err(AuthError::denied("the command that prints the secret is empty"));
    };
    let failed = |kind: ErrorKind, reason: &str| AuthError { kind, detail: format!("the command {program} {reason}") };
    let finished = programs.run(OsStr::new(program), arguments, "").await;
    let finished = finished.map_err(|(kind, reason)| failed(kind, &reason))?;
    if let Some(failure) = finished.failure {
        return Err(failed(ErrorKind::Unavailable, &format!("failed ({failure})")));
    }
    let text = String::from_utf8(finished.output)
        .map_err(|_| failed(ErrorKind::Invalid, "printed something other than UTF-8 text"))?;
    let secret = trim_line_breaks(&text);
    if secret.is_empty() || secret.contains(['\n', '\r']) {
        return Err(failed(ErrorKind::Invalid, "did not print exactly one line"));
    }
    let password =
        |username: &str, password: &str| Login::Password { username: username.to_owned(), password: password.into() };
    Ok(match (username, secret.split_once(':')) {
        (Some(username), _) => password(username, secret),
        (None, Some((username, secret))) => password(username, secret),
        (None, None) => Login::Token(secret.into()),
    })
}
