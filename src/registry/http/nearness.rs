//! Classification of near addresses. An address is near if only this machine, or machines in the same network, can
//! reach the address. This file does not resolve names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Kind of a near address.
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

/// Returns the nearness of a URL's host. Returns `None` for a public address. Does not resolve names: returns `None`
/// for all names except `localhost` and the names of metadata services.
pub(crate) fn nearness(url: &Url) -> Option<Nearness> {
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

/// Addresses of metadata services outside the link-local range: Azure's wire server, Alibaba Cloud, and EC2 over IPv6.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Returns the nearness of an address; `None` for a public address.
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

/// Returns true if the host of a URL is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    nearness(url) == Some(Nearness::Loopback)
}
