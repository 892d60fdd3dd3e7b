//! Credentials that an operator's own command prints.

use std::ffi::OsStr;

use super::login::Login;
use super::program::Programs;
use super::secret::trim_line_breaks;
use crate::registry::auth::error::AuthError;
use crate::store::ErrorKind;

/// Runs the command and reads its output:
///
/// * If a user name is configured, the output is the password.
/// * Otherwise the output is `USER:PASSWORD`, or an identity token if the output has no colon.
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
