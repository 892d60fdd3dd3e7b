//! Client of one registry for one identity.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use url::Url;

use super::repository::Repository;
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::auth::authenticator::Authenticator;
use crate::registry::auth::credentials::ServiceClients;
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

/// Default maximum length of a manifest, in bytes. distribution-spec recommends that clients and registries support at
/// least 4 MB.
const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// Upper bound of the maximum length of a manifest, in bytes. If the configuration sets a larger maximum, this bound
/// applies.
const LARGEST_MANIFEST: usize = 8 * 1024 * 1024;

/// Client of one registry for one identity. The clients of all identities at a registry share the connections, the
/// limits and the learned facts.
pub struct Registry {
    shared: Arc<Shared>,
    authenticator: Authenticator,
    /// True if the registry denied this identity the tag list of Azure's own API. The registry can still allow the tag
    /// list of the standard API.
    own_listing_refused: AtomicBool,
    mount_denials: MountDenials,
}

/// State that all clients of one registry share. So the limits apply to the sum of the requests of all entries and
/// identities.
struct Shared {
    sender: Arc<Sender>,
    flavor: &'static Flavor,
    facts: RegistryFacts,
    /// Maximum length of a manifest, in bytes.
    max_manifest: usize,
    /// Number of pulls per quota window that this program leaves to other users of the quota (`limits.reserve_pulls`).
    reserved_pulls: AtomicU64,
}

/// Reason why the client of a registry cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The host does not make a valid URL.
    #[error("{0} does not make a valid URL")]
    Address(RegistryHost),
    /// An attacker could intercept the connection and steal the token of a cloud identity.
    #[error("a cloud identity is not sent to {host} {how}")]
    Exposed {
        /// The registry.
        host: RegistryHost,
        /// Weakness of the connection, and the remedy.
        how: &'static str,
    },
    /// The HTTP client cannot be set up. The usual cause is that this machine has no CA certificates.
    #[error("cannot create the HTTPS client for {host}: {reason}")]
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
    /// [`RegistryError`] if the client cannot be created.
    pub fn new(host: RegistryHost, options: Options) -> Result<Arc<Self>, RegistryError> {
        Self::with_lookup(host, options, RetryPolicy::default(), Lookup::system())
    }

    #[cfg(test)]
    pub(crate) fn with_retry_policy(
        host: RegistryHost,
        options: Options,
        retry_policy: RetryPolicy,
    ) -> Result<Arc<Self>, RegistryError> {
        Self::with_lookup(host, options, retry_policy, Lookup::system())
    }

    /// Creates a client with this retry policy. Before the client checks the addresses of a host, the client resolves
    /// the host's name with `lookup`.
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

    /// Creates a client for the same registry and a different identity. Both clients share the connections, the limits
    /// and the learned facts. Each client has its own logins and tokens.
    ///
    /// # Errors
    /// [`RegistryError`] if the client cannot be created.
    pub fn with_identity(&self, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        Self::from_shared(Arc::clone(&self.shared), credentials)
    }

    fn from_shared(shared: Arc<Shared>, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        let clients = service_clients(&shared.sender, credentials.as_ref())?;
        let authenticator = Authenticator::new(Arc::clone(&shared.sender), credentials, clients);
        authenticator.quota().set_reserve(shared.reserved_pulls.load(Ordering::Relaxed));
        let (own_listing_refused, mount_denials) = (AtomicBool::new(false), MountDenials::default());
        Ok(Arc::new(Self { shared, authenticator, own_listing_refused, mount_denials }))
    }

    /// Returns true if this client uses these credentials. A client without credentials uses
    /// [`Credentials::Anonymous`].
    #[must_use]
    pub fn uses_credentials(&self, credentials: &Credentials) -> bool {
        self.authenticator.credentials().unwrap_or(&Credentials::Anonymous) == credentials
    }

    /// Returns the credentials for one repository, if docker's configuration has an entry for a namespace of the
    /// repository. Otherwise returns `None`, and the credentials of the whole registry apply. Reads the files of
    /// docker's configuration.
    #[must_use]
    pub fn namespace_credentials(&self, name: &RepositoryName) -> Option<Credentials> {
        self.authenticator.namespace_credentials(name)
    }

    /// Returns the identity of this client: the user name if known, or else the source of the credentials. Returns
    /// `anonymous` for a client without credentials.
    #[must_use]
    pub fn identity(&self) -> String {
        self.authenticator.identity()
    }

    /// Returns the client of one repository. The call is cheap and sends no request.
    #[must_use]
    pub fn repository(self: &Arc<Self>, name: RepositoryName) -> Repository {
        Repository::new(Arc::clone(self), name)
    }

    /// Leaves `reads` pulls per quota window to other users of the quota. The number applies to this client, and to
    /// clients that [`Self::with_identity`] creates later.
    pub(crate) fn reserve_pulls(&self, reads: u64) {
        self.shared.reserved_pulls.store(reads, Ordering::Relaxed);
        self.authenticator.quota().set_reserve(reads);
    }

    /// Returns the host of the registry.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.sender().host
    }

    /// Sends a request, with retries by the retry policy. Returns the first response that needs no retry: a success or
    /// a refusal, with any status.
    ///
    /// # Errors
    /// Returns an error if the client receives no usable response, or no token for the request.
    pub(crate) async fn send(&self, context: &Context, request: RegistryRequest) -> Result<Response, StoreError> {
        self.authenticator.send(context, request).await
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Returns the sender, which has the registry's limits and counters.
    pub(crate) fn sender(&self) -> &Arc<Sender> {
        &self.shared.sender
    }

    pub(crate) fn facts(&self) -> &RegistryFacts {
        &self.shared.facts
    }

    pub(crate) fn flavor(&self) -> &'static Flavor {
        self.shared.flavor
    }

    pub(crate) fn max_manifest(&self) -> usize {
        self.shared.max_manifest
    }

    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.sender().retry_policy
    }

    pub(crate) fn mount_denials(&self) -> &MountDenials {
        &self.mount_denials
    }

    /// Returns the URL of `path` at this registry. The path begins with `/`: `/v2/…`.
    pub(crate) fn address(&self, path: &str) -> Result<Url, url::ParseError> {
        self.sender().address(path)
    }

    /// Creates the context of a request that belongs to no repository.
    pub(crate) fn context(&self, step: Step) -> Context {
        Context::new(self.host().as_str().into(), step, String::new(), self.flavor(), &self.sender().budgets)
    }

    /// Returns a request body with the bytes of a blob. The body respects the bandwidth limits and counts the sent
    /// bytes.
    pub(crate) fn outgoing(&self, bytes: Verified, tenant: Tenant) -> Outgoing {
        Outgoing::new(bytes, self.sender(), tenant)
    }

    /// Returns true if the tag listing includes digests, according to the registry's flavour or an earlier listing.
    pub(crate) fn lists_digests(&self) -> bool {
        self.flavor().tag_list_has_digests || self.has_own_listing() || self.facts().lists_digests()
    }

    /// Returns true if the client lists tags by the API of Azure Container Registry instead of the standard API.
    pub(crate) fn has_own_listing(&self) -> bool {
        self.flavor().has_azure_tag_list && !self.own_listing_refused.load(Ordering::Relaxed)
    }

    /// Records that the registry denies this identity the tag listing of Azure Container Registry.
    pub(crate) fn learn_own_listing_is_refused(&self) {
        self.own_listing_refused.store(true, Ordering::Relaxed);
    }
}

/// Returns the base URL of the API: scheme, host, port, and the path before `v2/`.
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

/// Returns the HTTP clients for the services that issue tokens for these credentials. Returns an error for a cloud
/// identity if an attacker could intercept the connection to the registry.
fn service_clients(sender: &Sender, credentials: Option<&Credentials>) -> Result<ServiceClients, RegistryError> {
    let are_from_cloud = credentials.is_some_and(Credentials::are_from_cloud);
    if are_from_cloud && let Some(how) = interception_risk(sender) {
        return Err(RegistryError::Exposed { host: sender.host.clone(), how });
    }
    let verifying = if are_from_cloud { sender.verifying_client() } else { None };
    let authority = match verifying {
        Some(client) => client.map_err(|error| client_error(&sender.host, error))?,
        None => sender.client().clone(),
    };
    Ok(ServiceClients {
        http: sender.client().clone(),
        authority,
        registry: sender.base.clone(),
        limiter: sender.limiter.clone(),
        retry_policy: sender.retry_policy.clone(),
    })
}

/// Returns the weakness of the connection to the registry, with its remedy, as a part of an error message. Returns
/// `None` for the loopback interface, and for HTTPS with verified certificates.
fn interception_risk(sender: &Sender) -> Option<&'static str> {
    if is_loopback(&sender.base) {
        None
    } else if sender.base.scheme() != "https" {
        Some("over plain HTTP: remove `plain_http`")
    } else if sender.transport.tls.insecure_skip_verify {
        Some(
            "while its certificate is not verified: \
             remove `insecure_skip_verify`, and set `tls.ca` to the file of its authority",
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
