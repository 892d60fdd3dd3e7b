//! DNS resolver for requests to a token service that the registry named. The resolver returns only the allowed
//! addresses of a host name, so the client connects only to an address that the resolver checked. A later change of the
//! DNS record (DNS rebinding) has no effect.
//!
//! If the URL of the token service contains a literal address, the client resolves no name. [`judge_address`] checks
//! literal addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::nearness::{Nearness, nearness, nearness_of};
use super::redirect;
use crate::registry::options::token_service::TokenService;

/// Resolver of host names: the system's resolver, or the resolver of a test.
#[derive(Clone)]
pub(crate) struct Lookup(Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>);

impl Lookup {
    /// Returns the system's resolver.
    pub(crate) fn system() -> Self {
        Self(Arc::new(|name| {
            async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) }.boxed()
        }))
    }

    /// Returns a resolver that knows only these names.
    #[cfg(test)]
    pub(crate) fn fixed(known: &'static [(&'static str, &'static [&'static str])]) -> Self {
        Self(Arc::new(move |name| {
            let found = known.iter().find(|(host, _)| *host == name).map(|(_, addresses)| *addresses);
            let addresses = found.map(|addresses| addresses.iter().map(|address| address.parse().unwrap()).collect());
            async move { addresses.ok_or_else(|| io::Error::other("no such name")) }.boxed()
        }))
    }

    async fn resolve_name(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        (self.0)(name.to_owned()).await
    }

    /// Returns the nearness of a URL's host. Returns `None` in these cases:
    ///
    /// - The host has a public address.
    /// - The resolver finds no address.
    /// - The host has several addresses with different nearness.
    pub(crate) async fn nearness(&self, url: &Url) -> Option<Nearness> {
        match url.host()? {
            Host::Ipv4(address) => nearness_of(address.into()),
            Host::Ipv6(address) => nearness_of(address.to_canonical()),
            Host::Domain(name) => {
                let found = self.resolve_name(name).await.ok()?;
                let near = nearness_of(found.first()?.to_canonical())?;
                found.iter().all(|address| nearness_of(address.to_canonical()) == Some(near)).then_some(near)
            }
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Resolver for requests to the token services that the registry at `registry` names.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) lookup: Lookup,
    pub(crate) registry: Url,
}

/// Error for a token service with a host name. All addresses of the host name are near addresses that the client must
/// not contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token service {name} has the address {address}, {near}: transship sends no request to this service; to \
        permit it, set `token_service` of the registry"
)]
pub(crate) struct NearName {
    name: String,
    address: IpAddr,
    near: Nearness,
}

/// Error for a token service whose URL contains a near address that the client must not contact, such as
/// `https://127.0.0.1/token`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the registry names a token service at {0}, {1}: transship sends no request to this service; to permit it, set \
        `token_service` of the registry"
)]
pub(crate) struct NearService(String, Nearness);

/// Checks whether the client may send a token request to `service`, if the host of `service` is a literal address.
/// `registry` is the registry that named the service. A near address is allowed only if the operator configured the
/// service, or if the registry has the same nearness. If the host of the service is a name that needs DNS, returns
/// `Ok`.
pub(crate) async fn judge_address(
    service: &Url,
    registry: &Url,
    configured: Option<&TokenService>,
    lookup: &Lookup,
) -> Result<(), NearService> {
    if configured.is_some_and(|configured| configured.is_at(service)) {
        return Ok(());
    }
    let Some(near) = nearness(service) else { return Ok(()) };
    if nearness(registry) == Some(near) || lookup.nearness(registry).await == Some(near) {
        return Ok(());
    }
    Err(NearService(redirect::shown(service), near))
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, name) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let found = guard.lookup.resolve_name(&name).await?;
            let near = |address: &IpAddr| nearness_of(address.to_canonical());
            let own = match found.iter().any(|address| near(address).is_some()) {
                true => guard.lookup.nearness(&guard.registry).await,
                false => None,
            };
            let refused = |address: &IpAddr| near(address).filter(|near| Some(*near) != own);
            let allowed: Vec<SocketAddr> = found
                .iter()
                .filter(|address| refused(address).is_none())
                .map(|address| SocketAddr::new(*address, 0))
                .collect();
            let first_refused = found.iter().find_map(|address| Some((*address, refused(address)?)));
            match first_refused {
                Some((address, near)) if allowed.is_empty() => Err(NearName { name, address, near }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[(&str, &[&str])] = &[
        ("auth.example", &["203.0.113.7"]),
        ("meta.example", &["169.254.169.254"]),
        ("loop.example", &["127.0.0.1", "::1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("corp.example", &["10.0.0.7"]),
        ("other.corp.example", &["192.168.4.4"]),
        ("both.example", &["127.0.0.1", "203.0.113.8"]),
        ("tailnet.example", &["100.64.0.9"]),
        ("ula.example", &["fd12::1"]),
    ];

    async fn found(registry: &str, name: &str) -> Result<Vec<String>, String> {
        let guard = GuardedResolver { lookup: Lookup::fixed(KNOWN), registry: registry.parse().unwrap() };
        let found = guard.resolve(name.parse().unwrap()).await.map_err(|error| error.to_string())?;
        Ok(found.map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn name_with_near_address_is_refused_for_public_registry() {
        for name in ["meta.example", "loop.example", "mapped.example", "corp.example", "tailnet.example", "ula.example"]
        {
            for registry in ["https://auth.example/", "https://203.0.113.9/", "https://unknown.example/"] {
                let refused = found(registry, name).await.unwrap_err();
                assert!(
                    refused.starts_with(&format!("the token service {name} has the address "))
                        && refused.contains("`token_service`"),
                    "{refused}"
                );
            }
        }
        assert!(found("https://corp.example/", "meta.example").await.is_err());
        assert!(found("https://corp.example/", "loop.example").await.is_err());
        // A registry with a near and a public address does not count as near.
        assert!(found("https://both.example/", "loop.example").await.is_err());
    }

    #[tokio::test]
    async fn resolver_returns_only_addresses_allowed_for_the_registry() {
        assert_eq!(found("https://a.example/", "auth.example").await.unwrap(), ["203.0.113.7"]);
        assert_eq!(found("https://corp.example/", "other.corp.example").await.unwrap(), ["192.168.4.4"]);
        assert_eq!(found("http://127.0.0.1:5000/", "loop.example").await.unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(found("https://a.example/", "both.example").await.unwrap(), ["203.0.113.8"]);
        assert_eq!(found("https://a.example/", "unknown.example").await.unwrap_err(), "no such name");
    }
}
