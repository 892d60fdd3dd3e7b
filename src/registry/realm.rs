//! Whether a token service may be shown our credentials. The registry names it, so a hostile or hijacked registry
//! could name anything: this is the floor below which it is not believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why a realm is not asked for tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RealmError {
    #[error("the registry names no token service that can be read")]
    Unreadable,
    #[error("the registry names a token service without TLS, {0}: credentials are not sent there")]
    Plain(String),
    #[error("the registry names a token service on this machine or its metadata service, {0}: it is not asked")]
    Local(String),
}

/// Reads the `realm` of a challenge given by the registry at `registry`.
pub(crate) fn read(realm: &str, registry: &Url) -> Result<Url, RealmError> {
    let url: Url = realm.parse().map_err(|_| RealmError::Unreadable)?;
    let readable = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if !readable {
        return Err(RealmError::Unreadable);
    }
    let shown = || super::locate::shown(&url);
    if url.scheme() == "http" && registry.scheme() != "http" {
        return Err(RealmError::Plain(shown()));
    }
    match nearness(&url) {
        Some(near) if nearness(registry) != Some(near) => Err(RealmError::Local(shown())),
        _ => Ok(url),
    }
}

/// Addresses that only this machine or its surroundings can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearness {
    Loopback,
    LinkLocal,
    Metadata,
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

/// Google's and Amazon's metadata services by their names.
const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data.ec2.internal"];

/// Metadata services outside the link-local range: Azure's wire server, Alibaba's and the IPv6 one of EC2.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn nearness_of(address: IpAddr) -> Option<Nearness> {
    if address.is_loopback() || address.is_unspecified() {
        return Some(Nearness::Loopback);
    }
    let (link_local, metadata) = match address {
        IpAddr::V4(address) => (address.is_link_local(), METADATA_V4.contains(&address)),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address == METADATA_V6),
    };
    if metadata { Some(Nearness::Metadata) } else { link_local.then_some(Nearness::LinkLocal) }
}

/// Whether the host is this machine: such a one is never asked through a proxy.
pub(crate) fn is_loopback(url: &Url) -> bool {
    nearness(url) == Some(Nearness::Loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(registry: &str, realm: &str) -> Result<(), RealmError> {
        read(realm, &registry.parse().unwrap()).map(|_| ())
    }

    #[test]
    fn a_token_service_elsewhere_is_asked_over_tls_only() {
        assert_eq!(at("https://registry-1.docker.io/", "https://auth.docker.io/token"), Ok(()));
        assert_eq!(at("https://r/", "http://auth/token?x"), Err(RealmError::Plain("http://auth/token".into())));
        assert_eq!(at("http://r:5000/", "http://auth/token"), Ok(()));
        assert_eq!(at("https://r/", "/token"), Err(RealmError::Unreadable));
        assert_eq!(at("https://r/", "https://user@auth/token"), Err(RealmError::Unreadable));
        assert_eq!(at("http://r/", "ftp://auth/token"), Err(RealmError::Unreadable));
    }

    #[test]
    fn a_registry_elsewhere_cannot_point_at_this_machine_or_its_metadata_service() {
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
            assert!(matches!(at("https://registry.example/", realm), Err(RealmError::Local(_))), "{realm}");
        }
        assert_eq!(at("http://127.0.0.1:5000/", "http://localhost:5001/t"), Ok(()));
        assert!(at("http://127.0.0.1:5000/", "http://169.254.169.254/t").is_err());
        assert_eq!(at("https://10.0.0.5/", "https://10.0.0.6/t"), Ok(()));
    }
}
