//! Logins: credentials for a registry or its token service, and the time for which the client uses a login.

use std::time::Duration;

use base64::Engine as _;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use crate::registry::auth::error::AuthError;
use crate::registry::http::response::sensitive;

/// Time for which the client reuses a login that a program printed. If the registry refuses the login, the reuse ends.
pub(super) const REUSED_FOR: Duration = Duration::from_secs(300);

/// Safety margin before the expiry of a cloud's login. During the margin, the client no longer uses the login.
const SPARE: Duration = Duration::from_secs(60);

/// Credentials to send to a registry or its token service.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// User name and password.
    Password { username: String, password: SecretString },
    /// Identity token for the token service.
    Token(SecretString),
    /// Access token for the registry itself.
    Access(SecretString),
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password { username: a, password: x }, Self::Password { username: b, password: y }) => {
                a == b && x.expose_secret() == y.expose_secret()
            }
            (Self::Token(a), Self::Token(b)) | (Self::Access(a), Self::Access(b)) => {
                a.expose_secret() == b.expose_secret()
            }
            (Self::Password { .. } | Self::Token(_) | Self::Access(_), _) => false,
        }
    }
}

impl Login {
    /// Returns the user name and the password as a Basic header; `None` for a token.
    pub(crate) fn basic(&self) -> Result<Option<HeaderValue>, AuthError> {
        let Self::Password { username, password } = self else { return Ok(None) };
        let login = format!("{username}:{}", password.expose_secret());
        let value =
            HeaderValue::from_str(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login)));
        Ok(Some(sensitive(
            value
                .map_err(|_| AuthError::denied("the credentials contain characters that a header must not contain"))?,
        )))
    }
}

/// Login that a cloud issued, with the time for which the client uses the login, and the name of the identity.
pub(super) struct CloudLogin {
    pub(super) login: Login,
    pub(super) usable_for: Duration,
    pub(super) name: String,
}

impl CloudLogin {
    pub(super) fn into_parts(self) -> (Option<Login>, Duration, Option<String>) {
        (Some(self.login), self.usable_for, Some(self.name))
    }
}

/// Returns the time for which the client uses a cloud's login: `lifetime` without the margin [`SPARE`]. `lifetime` is
/// the remaining lifetime of the login. If `lifetime` is less than two minutes, the margin is half of `lifetime`.
pub(super) fn usable_time(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(SPARE.min(lifetime / 2))
}
