//! Rules for the token service that a registry names in the `realm` of a challenge. A hostile or hijacked registry
//! could name any address. If an address breaks a rule, the client sends no credentials to this address.

use url::Url;

use crate::registry::TokenService;
use crate::registry::http::nearness::{Nearness, is_loopback, nearness};
use crate::registry::http::redirect;

/// Reason why the client sends no request, or no credentials, to a token service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RealmError {
    #[error("the registry names no token service with a valid HTTP or HTTPS URL")]
    Unreadable,
    #[error("the registry names a token service without TLS, {0}: transship sends no credentials to this service")]
    Plain(String),
    #[error(
        "the registry names a token service on this machine or its metadata service, {0}: transship sends no request \
            to this service; to permit it, set `token_service` of the registry"
    )]
    Local(String),
    #[error(
        "the registry speaks plain HTTP and names a token service on another host, {0}: transship sends no \
            credentials to this service; to permit it, set `token_service` of the registry"
    )]
    OtherHost(String),
}

/// Parses the `realm` of a challenge from the registry at `registry`. `configured` is the token service that the
/// operator configured. The configured service can be at a local address.
///
/// This function does not resolve the host name of the realm. [`crate::registry::http::resolver`] checks the addresses
/// of the host name when the client connects.
pub(crate) fn read(realm: &str, registry: &Url, configured: Option<&TokenService>) -> Result<Url, RealmError> {
    let url: Url = realm.parse().map_err(|_| RealmError::Unreadable)?;
    let is_readable = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if !is_readable {
        return Err(RealmError::Unreadable);
    }
    let shown = || redirect::shown(&url);
    if url.scheme() == "http" && registry.scheme() != "http" {
        return Err(RealmError::Plain(shown()));
    }
    if configured.is_some_and(|service| service.is_at(&url)) {
        return Ok(url);
    }
    match nearness(&url).filter(|near| *near != Nearness::Private) {
        Some(near) if nearness(registry) != Some(near) => Err(RealmError::Local(shown())),
        _ => Ok(url),
    }
}

/// Checks whether the client may send the registry's credentials to the token service at `realm`. `registry` is the URL
/// of the registry. If the registry uses plain HTTP, anybody on the network path can change the realm. In this case,
/// only the registry's own host and the configured service may receive credentials.
pub(crate) fn may_get_credentials(
    realm: &Url,
    registry: &Url,
    configured: Option<&TokenService>,
) -> Result<(), RealmError> {
    let is_configured = configured.is_some_and(|service| service.is_at(realm));
    let is_own = realm.host() == registry.host() || (is_loopback(realm) && is_loopback(registry));
    if registry.scheme() == "https" || is_configured || is_own {
        return Ok(());
    }
    Err(RealmError::OtherHost(redirect::shown(realm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(registry: &str, realm: &str) -> Result<(), RealmError> {
        read(realm, &registry.parse().unwrap(), None).map(|_| ())
    }

    #[test]
    fn token_request_to_another_host_requires_tls() {
        assert_eq!(check("https://registry-1.docker.io/", "https://auth.docker.io/token"), Ok(()));
        assert_eq!(check("https://r/", "http://auth/token?x"), Err(RealmError::Plain("http://auth/token".into())));
        assert_eq!(check("http://r:5000/", "http://auth/token"), Ok(()));
        assert_eq!(check("https://r/", "/token"), Err(RealmError::Unreadable));
        assert_eq!(check("https://r/", "https://user@auth/token"), Err(RealmError::Unreadable));
        assert_eq!(check("http://r/", "ftp://auth/token"), Err(RealmError::Unreadable));
    }

    #[test]
    fn public_registry_cannot_name_local_or_metadata_realm() {
        for realm in [
            "https://localhost/t",
            "https://127.0.0.1/t",
            "https://127.8.9.1:99/t",
            "https://2130706433/t",
            "https://[::1]/t",
            "https://[::ffff:127.0.0.1]/t",
            "https://0.0.0.0/t",
            "https://169.254.169.254/t",
            "https://[fe80::1]/t",
            "https://[fd00:ec2::254]/t",
            "https://metadata.google.internal/t",
            "https://metadata.goog/t",
            "https://Instance-Data.ec2.internal./t",
            "https://168.63.129.16/t",
        ] {
            assert!(matches!(check("https://registry.example/", realm), Err(RealmError::Local(_))), "{realm}");
        }
        assert_eq!(check("http://127.0.0.1:5000/", "http://localhost:5001/t"), Ok(()));
        assert!(check("http://127.0.0.1:5000/", "http://169.254.169.254/t").is_err());
        assert_eq!(check("https://10.0.0.5/", "https://10.0.0.6/t"), Ok(()));
    }
}
