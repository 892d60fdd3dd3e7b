//! Client of one registry in one identity: the requests with credentials, and the facts that the client has learned.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use url::Url;

use super::repository::Repository;
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::auth::authenticator::Authenticator;
use crate::registry::auth::credentials::Wire;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::http::body::Outgoing;
use crate::registry::http::context::Context;
use crate::registry::http::nearness::is_loopback;
use crate::registry::http::resolver::Lookup;
use crate::registry::http::response::Response;
use crate::registry::http::retry::RetryPolicy;
use crate::registry::http::sender::Sender;
use crate::registry::learned::mount_denials::MountDenials;
use crate::registry::learned::registry_facts::RegistryFacts;
use crate::registry::{Credentials, Flavor, Options, Tenant, Transport};
use crate::store::{Step, StoreError, Verified};

/// Default for the maximum length of a manifest, in bytes (distribution-spec asks registries for 4 MiB at least).
const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// Upper bound of the configurable maximum, in bytes.
const LARGEST_MANIFEST: usize = 8 * 1024 * 1024;

/// Registry client for one identity. All requests in that identity share it, and all identities share its facts and its
/// connections.
pub struct Registry {
    shared: Arc<Shared>,
    authenticator: Authenticator,
    /// True if the registry denied this identity the tag listing that only this kind of registry has, but not the
    /// standard listing.
    own_listing_refused: AtomicBool,
    mount_denials: MountDenials,
}

/// Parts that all identities of a registry share, so that its limits hold over all entries and identities.
struct Shared {
    sender: Arc<Sender>,
    flavor: &'static Flavor,
    facts: RegistryFacts,
    /// Maximum length of a manifest, in bytes.
    max_manifest: usize,
    /// Number of counted pulls per window that this client reserves for others.
    reserved_pulls: AtomicU64,
}

/// Reason why there is no client for a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The host does not make a valid URL.
    #[error("{0} does not make a valid URL")]
    Address(RegistryHost),
    /// Anybody on the connection could take a token that grants access to more than this registry.
    #[error("{host} does not receive a cloud identity {how}")]
    Exposed {
        /// The registry.
        host: RegistryHost,
        /// Weakness of the connection, and the remedy.
        how: &'static str,
    },
    /// The HTTP client cannot be set up. The usual cause is that this machine has no CA certificates.
    #[error("no HTTPS client for {host}: {reason}")]
    Client {
        /// The registry.
        host: RegistryHost,
        /// Cause of the failure.
        reason: String,
    },
}

impl Registry {
    /// Creates a client for the registry at `host`. Sends no request yet.
    ///
    /// # Errors
    /// [`RegistryError`] when the HTTP client cannot be set up.
    pub fn new(host: RegistryHost, options: Options) -> Result<Arc<Self>, RegistryError> {
        Self::with_lookup(host, options, RetryPolicy::default(), Lookup::system())
    }

    /// Creates a client with another retry policy.
    #[cfg(test)]
    pub(crate) fn with_retry_policy(
        host: RegistryHost,
        options: Options,
        retry_policy: RetryPolicy,
    ) -> Result<Arc<Self>, RegistryError> {
        Self::with_lookup(host, options, retry_policy, Lookup::system())
    }

    /// Creates a client with another retry policy, which uses `lookup` to resolve the names that it checks.
    pub(crate) fn with_lookup(
        host: RegistryHost,
        options: Options,
        retry_policy: RetryPolicy,
        lookup: Lookup,
    ) -> Result<Arc<Self>, RegistryError> {
        let Options { credentials, plain_http, flavor, limits, upload, max_manifest, transport } = options;
        let in_force = limits.in_force(&host, flavor);
        let flavor = Flavor::resolve(&host, flavor);
        let base = base_url(&host, flavor, plain_http, &transport)?;
        let sender = Sender::new(host.clone(), base, transport, &in_force, retry_policy, lookup)
            .map_err(|error| client_error(&host, error))?;
        let shared = Shared {
            sender: Arc::new(sender),
            flavor,
            facts: RegistryFacts::new(flavor, upload),
            max_manifest: max_manifest
                .map_or(MAX_MANIFEST, |set| usize::try_from(set).unwrap_or(LARGEST_MANIFEST).min(LARGEST_MANIFEST)),
            reserved_pulls: AtomicU64::new(limits.reserve_pulls),
        };
        Self::from_shared(Arc::new(shared), credentials)
    }

    /// Creates a client for the same registry in another identity. Both clients share the requests, the rate limits and
    /// the facts that were learned about the registry. Each client has its own logins and tokens.
    ///
    /// # Errors
    /// [`RegistryError`] when the HTTP client cannot be set up.
    pub fn with_identity(&self, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        Self::from_shared(Arc::clone(&self.shared), credentials)
    }

    fn from_shared(shared: Arc<Shared>, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        let wire = wire(&shared.sender, credentials.as_ref())?;
        let authenticator = Authenticator::new(Arc::clone(&shared.sender), credentials, wire);
        authenticator.quota().set_reserve(shared.reserved_pulls.load(Ordering::Relaxed));
        let (own_listing_refused, mount_denials) = (AtomicBool::new(false), MountDenials::default());
        Ok(Arc::new(Self { shared, authenticator, own_listing_refused, mount_denials }))
    }

    /// Returns true if requests use these credentials. Without credentials, requests are anonymous.
    #[must_use]
    pub fn uses_credentials(&self, credentials: &Credentials) -> bool {
        self.authenticator.credentials().unwrap_or(&Credentials::Anonymous) == credentials
    }

    /// Returns the credentials for one repository, if docker's configuration has an entry for a namespace that contains
    /// the repository. Returns `None` if the credentials of the whole registry apply. The files of that configuration
    /// are read.
    #[must_use]
    pub fn namespace_credentials(&self, name: &RepositoryName) -> Option<Credentials> {
        self.authenticator.namespace_credentials(name)
    }

    /// Returns the identity of this client: the user name if known, else the source of the login, or `anonymous`.
    #[must_use]
    pub fn identity(&self) -> String {
        self.authenticator.identity()
    }

    /// Returns the client of one repository. This is cheap and sends no request.
    #[must_use]
    pub fn repository(self: &Arc<Self>, name: RepositoryName) -> Repository {
        Repository::new(Arc::clone(self), name)
    }

    /// Reserves `reads` counted pulls per window for others, for this identity and for those created later.
    pub(crate) fn reserve_pulls(&self, reads: u64) {
        self.shared.reserved_pulls.store(reads, Ordering::Relaxed);
        self.authenticator.quota().set_reserve(reads);
    }

    /// Returns the registry's name, as people write it.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.sender().host
    }

    /// Sends a request until a final answer arrives: success or refusal, of any status.
    ///
    /// # Errors
    /// Returns an error if no usable answer arrives, or if the request gets no token.
    pub(crate) async fn send(&self, context: &Context, request: RegistryRequest) -> Result<Response, StoreError> {
        self.authenticator.send(context, request).await
    }

    /// Returns the authentication of this identity.
    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Returns the sender, which knows the registry's limits and counters.
    pub(crate) fn sender(&self) -> &Arc<Sender> {
        &self.shared.sender
    }

    /// Returns the facts that the registry's answers have shown.
    pub(crate) fn facts(&self) -> &RegistryFacts {
        &self.shared.facts
    }

    pub(crate) fn flavor(&self) -> &'static Flavor {
        self.shared.flavor
    }

    /// Returns the maximum length of a manifest, in bytes.
    pub(crate) fn max_manifest(&self) -> usize {
        self.shared.max_manifest
    }

    /// Returns the limits and pauses of requests.
    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.sender().retry_policy
    }

    /// Returns the pairs of repositories between which this identity may not mount.
    pub(crate) fn mount_denials(&self) -> &MountDenials {
        &self.mount_denials
    }

    /// Returns the URL of `path` at this registry. The path begins with `/`: `/v2/…`.
    pub(crate) fn address(&self, path: &str) -> Result<Url, url::ParseError> {
        self.sender().address(path)
    }

    /// Creates the context of a step that concerns the registry as a whole.
    pub(crate) fn context(&self, step: Step) -> Context {
        Context::new(self.host().as_str().into(), step, String::new(), self.flavor(), &self.sender().budgets)
    }

    /// Returns a request body with the bytes of a blob. Its bandwidth is limited, and its bytes are counted.
    pub(crate) fn outgoing(&self, bytes: Verified, tenant: Tenant) -> Outgoing {
        Outgoing::new(bytes, self.sender(), tenant)
    }

    /// Returns true if the tag listing includes digests: by the registry's flavour, or because an earlier listing
    /// included digests.
    pub(crate) fn lists_digests(&self) -> bool {
        self.flavor().tag_list_has_digests || self.has_own_listing() || self.facts().lists_digests()
    }

    /// Returns true if tags are listed in a way that only this kind of registry has.
    pub(crate) fn has_own_listing(&self) -> bool {
        self.flavor().has_azure_tag_list && !self.own_listing_refused.load(Ordering::Relaxed)
    }

    /// Records that the registry denies this identity its own tag listing: that listing requires a separate permission.
    pub(crate) fn learn_own_listing_is_refused(&self) {
        self.own_listing_refused.store(true, Ordering::Relaxed);
    }
}

/// Returns scheme and authority of the API, with the path before `v2/`.
fn base_url(
    host: &RegistryHost,
    flavor: &Flavor,
    plain_http: bool,
    transport: &Transport,
) -> Result<Url, RegistryError> {
    let scheme = if plain_http { "http" } else { "https" };
    let api_host = flavor.api_host.unwrap_or(host.as_str());
    let prefix = transport.path_prefix.as_ref().map_or("", |prefix| prefix.as_str());
    format!("{scheme}://{api_host}{prefix}/").parse().map_err(|_| RegistryError::Address(host.clone()))
}

fn client_error(host: &RegistryHost, error: reqwest::Error) -> RegistryError {
    RegistryError::Client { host: host.clone(), reason: error.without_url().to_string() }
}

/// Returns the clients by which these credentials reach the services that issue tokens for them. An identity at a cloud
/// is sent only over a connection with a verified certificate authority.
fn wire(sender: &Sender, credentials: Option<&Credentials>) -> Result<Wire, RegistryError> {
    let are_from_cloud = credentials.is_some_and(Credentials::are_from_cloud);
    if are_from_cloud && let Some(how) = interception_risk(sender) {
        return Err(RegistryError::Exposed { host: sender.host.clone(), how });
    }
    let verifying = if are_from_cloud { sender.verifying_client() } else { None };
    let authority = match verifying {
        Some(client) => client.map_err(|error| client_error(&sender.host, error))?,
        None => sender.client().clone(),
    };
    Ok(Wire {
        http: sender.client().clone(),
        authority,
        registry: sender.base.clone(),
        limiter: sender.limiter.clone(),
        retry_policy: sender.retry_policy.clone(),
    })
}

/// Returns the reason why others could read the traffic to the registry. On the loopback interface there is no such
/// reason.
fn interception_risk(sender: &Sender) -> Option<&'static str> {
    if is_loopback(&sender.base) {
        None
    } else if sender.base.scheme() != "https" {
        Some("over plain HTTP: leave `plain_http` out")
    } else if sender.transport.tls.insecure_skip_verify {
        Some(
            "while its certificate is not verified: \
             name its authority in `tls.ca` instead of `insecure_skip_verify`",
        )
    } else {
        None
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} as {})", self.host(), self.identity())
    }
}
