//! Docker's credential helpers. `docker-credential-NAME get` reads the name of a registry from standard input, and
//! prints the login as JSON.

use std::ffi::OsStr;

use serde::Deserialize;

use super::login::Login;
use super::program::Programs;
use crate::oci::RegistryHost;
use crate::registry::Flavor;
use crate::registry::auth::error::AuthError;
use crate::store::ErrorKind;

/// User name in the output that marks the secret as an identity token.
const IDENTITY_TOKEN: &str = "<token>";

/// Text that a helper prints if the helper has no login for a registry.
const NOT_FOUND: &str = "credentials not found";

/// Output of a helper. The type does not implement `Debug`, because `Debug` output would show the secret.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    #[serde(default)]
    username: String,
    secret: String,
}

/// Queries the helper `name` for the login of a registry. Returns `None` if the helper has no login. `server` is the
/// name under which docker stores the registry's credentials.
pub(super) async fn login(name: &str, server: &str, programs: &Programs) -> Result<Option<Login>, AuthError> {
    let program = format!("docker-credential-{name}");
    let failed =
        |kind: ErrorKind, reason: &str| AuthError { kind, detail: format!("the credential helper {program} {reason}") };
    if !is_helper_name(name) {
        return Err(AuthError::denied(
            "the name of the credential helper contains characters other than letters, digits, `.`, `_` and `-`",
        ));
    }
    let finished = programs.run(OsStr::new(&program), &["get".to_owned()], server).await;
    let finished = finished.map_err(|(kind, reason)| failed(kind, &reason))?;
    if let Some(failure) = finished.failure {
        if String::from_utf8_lossy(&finished.output).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(failed(ErrorKind::Unavailable, &format!("failed ({failure})")));
    }
    // The error omits the parser's reason, because the reason could quote the secret.
    let output: HelperOutput = serde_json::from_slice(&finished.output)
        .map_err(|_| failed(ErrorKind::Invalid, "printed something other than credentials"))?;
    Ok(read_login(output))
}

fn read_login(HelperOutput { username, secret }: HelperOutput) -> Option<Login> {
    match username.as_str() {
        _ if secret.is_empty() => None,
        IDENTITY_TOKEN => Some(Login::Token(secret.into())),
        _ => Some(Login::Password { username, password: secret.into() }),
    }
}

/// Returns the name under which docker stores the credentials of a registry.
pub(super) fn server_name(host: &RegistryHost) -> String {
    Flavor::from_host(host).credential_keys.map_or(host.as_str(), |keys| keys.written).to_owned()
}

/// Returns true if a text can replace NAME in `docker-credential-NAME`. A text with `/` is not allowed, because the
/// text would name a file in another folder.
fn is_helper_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
