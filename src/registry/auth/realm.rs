//! Rules that decide whether credentials may go to a token service. The registry names the service, so a hostile or
//! hijacked registry could name any address. These rules are the minimum that the service must meet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::resolver::Lookup;
use crate::registry::TokenService;

/// Reason why a realm gets no token request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RealmError {
    #[error("the registry names no token service with a readable address")]
    Unreadable,
    #[error("the registry names a token service without TLS, {0}: credentials are not sent there")]
    Plain(String),
    #[error(
        "the registry names a token service on this machine or its metadata service, {0}: no request is sent to it, \
         unless `token_service` of the registry names it"
    )]
    Local(String),
    #[error(
        "the registry names a token service at {0}, {1}: no request is sent to it, unless `token_service` of the \
         registry names it"
    )]
    Near(String, Nearness),
    #[error(
        "the registry speaks plain HTTP and names a token service on another host, {0}: credentials are not sent \
         there, unless `token_service` of the registry names it"
    )]
    Elsewhere(String),
}

/// Reads the `realm` of a challenge from the registry at `registry`, whose operator may have `named` a token service.
/// [`super::resolver`] judges the addresses behind the realm's name when it connects.
pub(crate) fn read(realm: &str, registry: &Url, named: Option<&TokenService>) -> Result<Url, RealmError> {
    let url: Url = realm.parse().map_err(|_| RealmError::Unreadable)?;
    let readable = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if !readable {
        return Err(RealmError::Unreadable);
    }
    let shown = || crate::registry::http::redirect::shown(&url);
    if url.scheme() == "http" && registry.scheme() != "http" {
        return Err(RealmError::Plain(shown()));
    }
    if named.is_some_and(|named| named.is_at(&url)) {
        return Ok(url);
    }
    match nearness(&url).filter(|near| *near != Nearness::Private) {
        Some(near) if nearness(registry) != Some(near) => Err(RealmError::Local(shown())),
        _ => Ok(url),
    }
}

/// Checks whether the token service at `realm` may get credentials for the registry at `registry`. On plain HTTP
/// anybody on the path can name any service. Credentials then go only to the registry's own host or to the service that
/// the operator named.
pub(crate) fn may_get_credentials(realm: &Url, registry: &Url, named: Option<&TokenService>) -> Result<(), RealmError> {
    let is_named = named.is_some_and(|named| named.is_at(realm));
    let is_own = realm.host() == registry.host() || (is_loopback(realm) && is_loopback(registry));
    if registry.scheme() == "https" || is_named || is_own {
        return Ok(());
    }
    Err(RealmError::Elsewhere(crate::registry::http::redirect::shown(realm)))
}

/// Checks whether a token service at a literal address may get a request for the registry at `registry`. A near address
/// is allowed only if the registry itself is equally near.
pub(crate) async fn judge_address(
    service: &Url,
    registry: &Url,
    named: Option<&TokenService>,
    lookup: &Lookup,
) -> Result<(), RealmError> {
    if named.is_some_and(|named| named.is_at(service)) {
        return Ok(());
    }
    let Some(near) = nearness(service) else { return Ok(()) };
    if nearness(registry) == Some(near) || lookup.nearness(registry).await == Some(near) {
        return Ok(());
    }
    Err(RealmError::Near(crate::registry::http::redirect::shown(service), near))
}

/// Kinds of addresses that only this machine or its surroundings can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nearness {
    Loopback,
    LinkLocal,
    Metadata,
    /// An address of a private network (RFC 1918, RFC 4193), or behind carrier-grade NAT (RFC 6598).
    Private,
}

impl fmt::Display for Nearness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "this machine",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service",
            Self::Private => "a private address",
        })
    }
}

fn nearness(url: &Url) -> Option<Nearness> {
    match url.host()? {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            if name == "localhost" || name.ends_with(".localhost") {
                Some(Nearness::Loopback)
            } else if METADATA_NAMES.contains(&name) {
                Some(Nearness::Metadata)
            } else {
                None
            }
        }
        Host::Ipv4(address) => nearness_of(address.into()),
        Host::Ipv6(address) => nearness_of(address.to_canonical()),
    }
}

/// Names of Google's and Amazon's metadata services.
const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data.ec2.internal"];

/// Metadata services outside the link-local range: Azure's wire server, Alibaba's, and EC2's over IPv6.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Returns the nearness of an address; `None` for a public one.
pub(crate) fn nearness_of(address: IpAddr) -> Option<Nearness> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(Nearness::Loopback);
    }
    let (link_local, metadata, private) = match address {
        IpAddr::V4(address) => {
            let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
            (address.is_link_local(), METADATA_V4.contains(&address), address.is_private() || is_shared)
        }
        IpAddr::V6(address) => (address.is_unicast_link_local(), address == METADATA_V6, address.is_unique_local()),
    };
    match (metadata, link_local, private) {
        (true, _, _) => Some(Nearness::Metadata),
        (_, true, _) => Some(Nearness::LinkLocal),
        (_, _, true) => Some(Nearness::Private),
        _ => None,
    }
}

/// Returns true if the host is this machine. A request to it never goes through a proxy.
pub(crate) fn is_loopback(url: &Url) -> bool {
    nearness(url) == Some(Nearness::Loopback)
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
