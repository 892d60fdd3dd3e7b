//! Client of one registry, shared by all of its repositories: what holds for every identity ([`Server`]), and what
//! holds for one ([`Registry`]).

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use url::Url;

use super::api::blobs::Looks;
use super::api::manifests;
use super::auth::authenticator::Auth;
use super::auth::credentials::Wire;
use super::auth::realm;
use super::auth::resolver::{GuardedResolver, Lookup};
use super::http::connect::{self, Via};
use super::http::error::{Approach, TransportError};
use super::http::pagination::Paging;
use super::http::retry::RetryPolicy;
use super::http::retry_budget::Budgets;
use super::http::{redirect, retry};
use super::limits::concurrency::ConcurrencyLimiter;
use super::limits::counters::Meter;
use super::limits::pace::Pace;
use super::upload::find_or_start::OwnMount;
use super::upload::mount_denials::Unmountable;
use super::upload::strategy::UploadStrategy;
use super::{Credentials, Flavor, MeterSnapshot, Options, Repository, TokenService, Transport};
use crate::oci::{Digest, RegistryHost, RepositoryName};

/// Registry client for one identity. All requests in that identity share it, and all identities share its server.
pub struct Registry {
    server: Arc<Server>,
    pub(crate) auth: Auth,
    /// True if the registry refused us the tag listing that only this kind of registry has, but not the standard
    /// listing.
    own_listing_refused: AtomicBool,
    pub(crate) unmountable: Unmountable,
}

/// Facts about a registry that hold for every identity: how to reach it, what the client has learned about it, and its
/// total load, so that its limits hold over all entries and identities.
pub struct Server {
    host: RegistryHost,
    /// Scheme and authority of the API, with the path before `v2/`: `/`, unless there is a prefix.
    pub(crate) base: Url,
    pub(crate) http: reqwest::Client,
    /// HTTP client for token services at other hosts, created at the first request to one.
    guarded: OnceLock<reqwest::Client>,
    lookup: Lookup,
    pub(crate) via: Via,
    /// True if a server has ever answered at this address.
    pub(crate) has_answered: AtomicBool,
    transport: Transport,
    /// Number of counted pulls per window that this client reserves for others.
    reserved_pulls: AtomicU64,
    pub(crate) pace: Pace,
    pub(crate) gate: ConcurrencyLimiter,
    pub(crate) meter: Meter,
    pub(crate) tempo: RetryPolicy,
    /// Retry budgets of the items that have failed.
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) flavor: &'static Flavor,
    pub(crate) upload: UploadStrategy,
    /// Maximum length of a manifest, in bytes.
    pub(crate) max_manifest: usize,
    pub(crate) own_mount: OwnMount,
    /// Outcome of the registry's last HEAD of a blob.
    pub(crate) looks: Looks,
    /// True if the log has already named the registry's requirement for mounts.
    logged_mount_requirement: AtomicBool,
    referrers_api: AtomicU8,
    /// Knowledge about the pages of the tag list (distribution-spec).
    pub(crate) tag_pages: Paging,
    /// Knowledge about the pages of the registry's own tag list.
    pub(crate) own_tag_pages: Paging,
    /// Knowledge about the pages of the repository catalog.
    pub(crate) catalog_pages: Paging,
    /// True if a tag listing has included digests.
    has_listed_digests: AtomicBool,
    /// Lock that the first caller of the referrers API holds; true afterwards.
    probed: tokio::sync::Mutex<bool>,
    locks: Mutex<HashMap<(RepositoryName, Digest), Weak<Turn>>>,
}

/// Lock of one subject's list of referrers, for its writers.
pub(crate) type Turn = tokio::sync::Mutex<()>;

/// Reason why there is no client for a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The host does not make a valid URL.
    #[error("{0} does not make a valid URL")]
    Address(RegistryHost),
    /// Somebody on the connection could take a token that grants access to more than this registry.
    #[error("{host} does not receive a cloud identity {how}")]
    Exposed {
        /// The registry.
        host: RegistryHost,
        /// Weakness of the connection, and the remedy.
        how: &'static str,
    },
    /// The HTTP client cannot be set up: most often, this machine has no CA certificates.
    #[error("no HTTPS client for {host}: {reason}")]
    Client {
        /// The registry.
        host: RegistryHost,
        /// Cause of the failure.
        reason: String,
    },
}

/// Support of a registry for the referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReferrersApi {
    Unknown = 0,
    Present = 1,
    Absent = 2,
}

impl Registry {
    /// Creates a client for the registry at `host`. Sends no request yet.
    ///
    /// # Errors
    /// [`RegistryError`] when the HTTP client cannot be set up.
    pub fn new(host: RegistryHost, options: Options) -> Result<Arc<Self>, RegistryError> {
        Self::with_tempo(host, options, RetryPolicy::default())
    }

    pub(crate) fn with_tempo(
        host: RegistryHost,
        options: Options,
        tempo: RetryPolicy,
    ) -> Result<Arc<Self>, RegistryError> {
        let credentials = options.credentials.clone();
        Self::from_server(Arc::new(Server::new(host, &options, tempo)?), credentials)
    }

    /// Creates a client for the same registry in another identity. Both share requests, pace and what was learned; they
    /// do not share logins and tokens.
    ///
    /// # Errors
    /// [`RegistryError`] when the HTTP client cannot be set up.
    pub fn with_identity(&self, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        Self::from_server(Arc::clone(&self.server), credentials)
    }

    /// Creates a client that uses `lookup` to resolve the names that it checks.
    #[cfg(test)]
    pub(crate) fn with_lookup(
        host: RegistryHost,
        options: Options,
        tempo: RetryPolicy,
        lookup: Lookup,
    ) -> Result<Arc<Self>, RegistryError> {
        let credentials = options.credentials.clone();
        Self::from_server(Arc::new(Server { lookup, ..Server::new(host, &options, tempo)? }), credentials)
    }

    fn from_server(server: Arc<Server>, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        let wire = server.wire(credentials.as_ref())?;
        let auth = Auth::new(server.host.clone(), credentials, wire);
        auth.quota.set_reserve(server.reserved_pulls.load(Ordering::Relaxed));
        Ok(Arc::new(Self {
            server,
            auth,
            own_listing_refused: AtomicBool::new(false),
            unmountable: Unmountable::default(),
        }))
    }

    /// Returns true if requests use these credentials. Without credentials, requests are anonymous.
    #[must_use]
    pub fn uses_credentials(&self, credentials: &Credentials) -> bool {
        self.auth.source.credentials().unwrap_or(&Credentials::Anonymous) == credentials
    }

    /// Returns the credentials for one repository, if docker's configuration has an entry for a namespace that contains
    /// it. `None` if the credentials of the whole registry apply. Reads the files of that configuration.
    #[must_use]
    pub fn namespace_credentials(&self, name: &RepositoryName) -> Option<Credentials> {
        self.auth.source.namespaced(name)
    }

    /// Returns the client of one repository. Cheap; sends no request.
    #[must_use]
    pub fn repository(self: &Arc<Self>, name: RepositoryName) -> Repository {
        Repository::new(Arc::clone(self), name)
    }

    /// Reserves `reads` counted pulls per window for others, for this identity and for those created later.
    pub(crate) fn reserve_pulls(&self, reads: u64) {
        self.server.reserved_pulls.store(reads, Ordering::Relaxed);
        self.auth.quota.set_reserve(reads);
    }

    /// Returns the registry's name, as people write it.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.server.host
    }

    /// Returns the counters of all requests to the registry so far, of every identity.
    #[must_use]
    pub fn meter(&self) -> MeterSnapshot {
        self.server.meter.snapshot()
    }

    /// Returns true if the tag listing includes digests: by the registry's flavour, or because it has included them
    /// before.
    pub(crate) fn lists_digests(&self) -> bool {
        self.flavor.tag_list_has_digests || self.has_own_listing() || self.has_listed_digests.load(Ordering::Relaxed)
    }

    /// Returns true if tags are listed in a way that only this kind of registry has.
    pub(crate) fn has_own_listing(&self) -> bool {
        self.flavor.has_azure_tag_list && !self.own_listing_refused.load(Ordering::Relaxed)
    }

    /// Records that the registry refuses us its own tag listing: it requires a permission of its own.
    pub(crate) fn learn_own_listing_is_refused(&self) {
        self.own_listing_refused.store(true, Ordering::Relaxed);
    }
}

/// Gives every identity access to the facts that hold for all of them.
impl Deref for Registry {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Server {
    fn new(host: RegistryHost, options: &Options, tempo: RetryPolicy) -> Result<Self, RegistryError> {
        let tempo = tempo.with_timeouts(options.transport.timeouts);
        let scheme = if options.plain_http { "http" } else { "https" };
        let flavor = Flavor::resolve(&host, options.flavor);
        let api_host = flavor.api_host.unwrap_or(host.as_str());
        let prefix = options.transport.path_prefix.as_ref().map_or("", |prefix| prefix.as_str());
        let base: Url =
            format!("{scheme}://{api_host}{prefix}/").parse().map_err(|_| RegistryError::Address(host.clone()))?;
        let limits = options.limits.in_force(&host, options.flavor);
        Ok(Self {
            flavor,
            upload: UploadStrategy::new(flavor, options.upload),
            max_manifest: manifests::length_limit(options.max_manifest),
            http: client(&host, &base, &tempo, &options.transport)?,
            host,
            guarded: OnceLock::new(),
            lookup: Lookup::system(),
            via: Via::new(&base, &options.transport),
            has_answered: AtomicBool::new(false),
            transport: options.transport.clone(),
            reserved_pulls: AtomicU64::new(options.limits.reserve_pulls),
            base,
            pace: Pace::new(&limits),
            gate: ConcurrencyLimiter::new(&limits),
            meter: Meter::default(),
            tempo,
            budgets: Arc::default(),
            own_mount: OwnMount::default(),
            looks: Looks::default(),
            logged_mount_requirement: AtomicBool::new(false),
            referrers_api: AtomicU8::new(ReferrersApi::Unknown as u8),
            tag_pages: Paging::default(),
            own_tag_pages: Paging::default(),
            catalog_pages: Paging::default(),
            has_listed_digests: AtomicBool::new(false),
            probed: tokio::sync::Mutex::new(false),
            locks: Mutex::default(),
        })
    }

    /// Returns facts about the connection to `url`, for the text of an error.
    pub(crate) fn approach(&self, url: &Url) -> Approach {
        Approach {
            via: self.via.proxy_to(url),
            shows_certificate: self.transport.tls.identity.is_some(),
            has_answered: self.has_answered.load(Ordering::Relaxed),
        }
    }

    /// Returns the clients by which these credentials reach the services that issue tokens for them. Only a verified
    /// authority receives what identifies us to a cloud.
    fn wire(&self, credentials: Option<&Credentials>) -> Result<Wire, RegistryError> {
        if credentials.is_some_and(Credentials::are_from_cloud)
            && let Some(how) = self.interception_risk()
        {
            return Err(RegistryError::Exposed { host: self.host.clone(), how });
        }
        let authority = match self.transport.verifying() {
            Some(transport) if credentials.is_some_and(Credentials::are_from_cloud) => {
                client(&self.host, &self.base, &self.tempo, &transport)?
            }
            _ => self.http.clone(),
        };
        Ok(Wire {
            http: self.http.clone(),
            authority,
            registry: self.base.clone(),
            gate: self.gate.clone(),
            tempo: self.tempo.clone(),
        })
    }

    /// Returns the reason why others could read the traffic to the registry. There is none on the loopback interface.
    fn interception_risk(&self) -> Option<&'static str> {
        if realm::is_loopback(&self.base) {
            None
        } else if self.base.scheme() != "https" {
            Some("over plain HTTP: leave `plain_http` out")
        } else if self.transport.tls.insecure_skip_verify {
            Some(
                "while its certificate is not verified: \
                 name its authority in `tls.ca` instead of `insecure_skip_verify`",
            )
        } else {
            None
        }
    }

    /// Returns the URL of `path` at this registry. The path begins with `/`: `/v2/…`.
    pub(crate) fn address(&self, path: &str) -> Result<Url, url::ParseError> {
        self.base.join(path.trim_start_matches('/'))
    }

    /// Returns the HTTP client for a request of this kind to `url`. A request to a token service at another host, and
    /// to the target of its redirects, goes only to an address that this function has checked. Through a proxy, the
    /// proxy resolves the name.
    pub(crate) async fn client_for(
        &self,
        kind: retry::Operation,
        url: &Url,
    ) -> Result<&reqwest::Client, TransportError> {
        let named = self.token_service();
        if kind != retry::Operation::Token || redirect::same_origin(url, &self.base) {
            return Ok(&self.http);
        }
        let judged = realm::judge_address(url, &self.base, named, &self.lookup).await;
        judged.map_err(|error| TransportError::Unusable(error.to_string()))?;
        if named.is_some_and(|named| named.is_at(url)) || self.via.proxy_to(url).is_some() {
            return Ok(&self.http);
        }
        if let Some(client) = self.guarded.get() {
            return Ok(client);
        }
        let guard = GuardedResolver { lookup: self.lookup.clone(), registry: self.base.clone() };
        let made = connect::guarded_client(&self.base, &self.tempo, &self.transport, guard);
        let made =
            made.map_err(|error| TransportError::Unusable(format!("no HTTP client: {}", error.without_url())))?;
        Ok(self.guarded.get_or_init(|| made))
    }

    /// Returns the token service that the operator configured.
    pub(crate) fn token_service(&self) -> Option<&TokenService> {
        self.transport.token_service.as_ref()
    }

    /// Returns the options of connections to the registry.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Logs once the registry's requirement for mounts, if it has one. If it is not met, all blobs arrive too, but each
    /// is uploaded.
    pub(crate) fn log_mount_requirement(&self) {
        if let Some(requirement) = self.flavor.mount_requirement
            && !self.logged_mount_requirement.swap(true, Ordering::Relaxed)
        {
            tracing::info!(registry = %self.host, "{requirement}");
        }
    }

    pub(crate) fn referrers_api(&self) -> ReferrersApi {
        match self.referrers_api.load(Ordering::Relaxed) {
            1 => ReferrersApi::Present,
            2 => ReferrersApi::Absent,
            _ => ReferrersApi::Unknown,
        }
    }

    /// Records that a tag listing included digests.
    pub(crate) fn learn_digests_are_listed(&self) {
        self.has_listed_digests.store(true, Ordering::Relaxed);
    }

    /// Returns a guard to the first caller while it is unknown whether the registry has the referrers API. The other
    /// callers wait until that guard is dropped, and get `None`.
    pub(crate) async fn first_to_probe(&self) -> Option<tokio::sync::MutexGuard<'_, bool>> {
        if self.referrers_api() != ReferrersApi::Unknown {
            return None;
        }
        let mut probed = self.probed.lock().await;
        (!std::mem::replace(&mut *probed, true)).then_some(probed)
    }

    /// Records whether the registry has the referrers API. Once seen, it is never considered absent.
    pub(crate) fn learn_referrers_api(&self, api: ReferrersApi) {
        if self.referrers_api() != ReferrersApi::Present {
            self.referrers_api.store(api as u8, Ordering::Relaxed);
        }
    }

    /// Returns the lock of one subject's list of referrers.
    pub(crate) fn referrers_lock(&self, name: &RepositoryName, subject: Digest) -> Arc<Turn> {
        let mut locks = self.locks.lock();
        let key = (name.clone(), subject);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}

fn client(
    host: &RegistryHost,
    base: &Url,
    tempo: &RetryPolicy,
    to: &Transport,
) -> Result<reqwest::Client, RegistryError> {
    connect::http_client(base, tempo, to)
        .map_err(|error| RegistryError::Client { host: host.clone(), reason: error.without_url().to_string() })
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} as {})", self.host(), self.auth.identity())
    }
}
