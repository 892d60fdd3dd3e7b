//! Docker's credential helpers: `docker-credential-NAME get` with the registry on its input answers JSON.

use std::ffi::OsStr;

use serde::Deserialize;

use super::Login;
use super::program::Programs;
use crate::oci::RegistryHost;
use crate::registry::auth::AuthError;
use crate::store::ErrorKind;

/// The user name that says that the secret is an identity token.
const IDENTITY_TOKEN: &str = "<token>";

/// How helpers say that they do not know a registry; they print it, and fail.
const NOT_FOUND: &str = "credentials not found";

/// No `Debug`: it would show the secret.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    #[serde(default)]
    username: String,
    secret: String,
}

/// What the helper of this name knows of a server, as docker writes it; `None` where it knows nothing.
pub(super) async fn login(name: &str, server: &str, programs: &Programs) -> Result<Option<Login>, AuthError> {
    let program = format!("docker-credential-{name}");
    let failed =
        |kind: ErrorKind, reason: &str| AuthError { kind, detail: format!("the credential helper {program} {reason}") };
    if !is_name(name) {
        return Err(AuthError::denied(
            "the name of the credential helper has other characters than letters, digits, `.`, `_` and `-`",
        ));
    }
    let ended = programs.run(OsStr::new(&program), &["get".to_owned()], server).await;
    let ended = ended.map_err(|(kind, reason)| failed(kind, &reason))?;
    if let Some(failure) = ended.failure {
        if String::from_utf8_lossy(&ended.output).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(failed(ErrorKind::Unavailable, &format!("failed ({failure})")));
    }
    // Why it cannot be read is not told: it could quote the secret.
    let told: Told = serde_json::from_slice(&ended.output)
        .map_err(|_| failed(ErrorKind::Invalid, "printed something else than credentials"))?;
    Ok(read(told))
}

fn read(Told { username, secret }: Told) -> Option<Login> {
    match username.as_str() {
        _ if secret.is_empty() => None,
        IDENTITY_TOKEN => Some(Login::Token(secret.into())),
        _ => Some(Login::Password { username, password: secret.into() }),
    }
}

/// A registry as docker writes it where it keeps credentials.
pub(super) fn asked_as(host: &RegistryHost) -> String {
    if host.is_docker_hub() { "https://index.docker.io/v1/".to_owned() } else { host.as_str().to_owned() }
}

/// Whether a text can be the last part of a program's name, and no path.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
