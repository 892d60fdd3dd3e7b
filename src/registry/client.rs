//! What all repositories of one registry share: what it is and how much it is asked, whoever asks, and who we are there.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use url::Url;

use super::auth::Auth;
use super::blobs::Looks;
use super::connect::{self, Via};
use super::credentials::Wire;
use super::manner::Manner;
use super::meter::Meter;
use super::pace::Pace;
use super::paging::Paging;
use super::permits::Gate;
use super::resolver::{GuardedResolver, Lookup};
use super::retry::Tempo;
use super::seek::OwnMount;
use super::trouble::{Approach, Trouble};
use super::unmountable::Unmountable;
use super::{Credentials, Kind, MeterSnapshot, Options, Repository, TokenService, Transport};
use super::{locate, manifests, realm, retry};
use crate::oci::{Digest, RegistryHost, RepositoryName};

/// One registry, as who somebody is there. Shared by all that speak to it in that name; its server is shared by all.
pub struct Registry {
    server: Arc<Server>,
    pub(crate) auth: Auth,
    /// Whether the listing of its own that this kind of registry has was refused to us, while the standard one was not.
    own_listing_refused: AtomicBool,
    pub(crate) unmountable: Unmountable,
}

/// What is true of a registry whoever asks: how it is reached, what was learnt of it, and what it is asked for in all, so
/// that its limits hold over all entries and identities.
pub struct Server {
    host: RegistryHost,
    /// Scheme and authority of the API, with the path before `v2/`: `/`, unless there is a prefix.
    pub(crate) base: Url,
    pub(crate) http: reqwest::Client,
    /// For token services elsewhere: made when the first is asked.
    guarded: OnceLock<reqwest::Client>,
    lookup: Lookup,
    pub(crate) via: Via,
    /// True if anybody has ever answered there.
    pub(crate) has_answered: AtomicBool,
    transport: Transport,
    /// How many counted reads of a window are left to others.
    keep: AtomicU64,
    pub(crate) pace: Pace,
    pub(crate) gate: Gate,
    pub(crate) meter: Meter,
    pub(crate) tempo: Tempo,
    pub(crate) kind: Kind,
    pub(crate) upload: Manner,
    /// The largest manifest that is read, in bytes.
    pub(crate) max_manifest: usize,
    pub(crate) own_mount: OwnMount,
    /// Its last answer to a HEAD of a blob.
    pub(crate) looks: Looks,
    /// Whether the setting without which Amazon's mount nothing has been named.
    named_mounting: AtomicBool,
    referrers_api: AtomicU8,
    /// How its lists come in pages: of tags by the specification, of tags in a way of its own, and of repositories.
    pub(crate) tag_pages: Paging,
    pub(crate) own_tag_pages: Paging,
    pub(crate) catalog_pages: Paging,
    /// Whether a tag listing has told digests.
    told_digests: AtomicBool,
    /// Held by the first who asks by the referrers API; then true.
    probed: tokio::sync::Mutex<bool>,
    locks: Mutex<HashMap<(RepositoryName, Digest), Weak<Turn>>>,
}

/// Whose turn it is to write one subject's list of referrers.
pub(crate) type Turn = tokio::sync::Mutex<()>;

/// Why there is no client for a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The host makes no address.
    #[error("{0} makes no address")]
    Address(RegistryHost),
    /// Whoever is in between could take a token that opens more than this registry.
    #[error("{host} is not shown the identity of a cloud {how}")]
    Exposed {
        /// The registry.
        host: RegistryHost,
        /// Over what, and the way out.
        how: &'static str,
    },
    /// The HTTP client cannot be set up: most often, there are no certificates of authorities on this machine.
    #[error("no HTTPS client for {host}: {reason}")]
    Client {
        /// The registry.
        host: RegistryHost,
        /// What is missing.
        reason: String,
    },
}

/// Whether a registry has the referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReferrersApi {
    Unknown = 0,
    Present = 1,
    Absent = 2,
}

impl Registry {
    /// A client for the registry at `host`. Contacts nobody yet.
    ///
    /// # Errors
    /// [`RegistryError`] when the HTTP client cannot be set up.
    pub fn new(host: RegistryHost, options: Options) -> Result<Arc<Self>, RegistryError> {
        Self::with_tempo(host, options, Tempo::default())
    }

    pub(crate) fn with_tempo(host: RegistryHost, options: Options, tempo: Tempo) -> Result<Arc<Self>, RegistryError> {
        let credentials = options.credentials.clone();
        Self::of(Arc::new(Server::new(host, &options, tempo)?), credentials)
    }

    /// The same registry in another name. Requests, pace and what was learnt of it are shared; logins and tokens are not.
    ///
    /// # Errors
    /// [`RegistryError`] when the HTTP client cannot be set up.
    pub fn as_other(&self, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        Self::of(Arc::clone(&self.server), credentials)
    }

    /// A client that looks names up here where it judges them.
    #[cfg(test)]
    pub(crate) fn with_lookup(
        host: RegistryHost,
        options: Options,
        tempo: Tempo,
        lookup: Lookup,
    ) -> Result<Arc<Self>, RegistryError> {
        let credentials = options.credentials.clone();
        Self::of(Arc::new(Server { lookup, ..Server::new(host, &options, tempo)? }), credentials)
    }

    fn of(server: Arc<Server>, credentials: Option<Credentials>) -> Result<Arc<Self>, RegistryError> {
        let wire = server.wire(credentials.as_ref())?;
        let auth = Auth::new(server.host.clone(), credentials, wire);
        auth.quota.keep(server.keep.load(Ordering::Relaxed));
        Ok(Arc::new(Self {
            server,
            auth,
            own_listing_refused: AtomicBool::new(false),
            unmountable: Unmountable::default(),
        }))
    }

    /// Whether it is asked in the name of these credentials. Who has none is anonymous.
    #[must_use]
    pub fn is(&self, credentials: &Credentials) -> bool {
        self.auth.source.credentials().unwrap_or(&Credentials::Anonymous) == credentials
    }

    /// Who to be at one repository, where docker's configuration has an entry for a namespace that it is in. `None` where that
    /// is who it is for the whole registry. Reads the files of that configuration.
    #[must_use]
    pub fn credentials_below(&self, name: &RepositoryName) -> Option<Credentials> {
        self.auth.source.namespaced(name)
    }

    /// One of its repositories. Cheap, and contacts nobody.
    #[must_use]
    pub fn repository(self: &Arc<Self>, name: RepositoryName) -> Repository {
        Repository::new(Arc::clone(self), name)
    }

    /// Leaves so many counted reads of a window to others, in this name and in those that are yet to come.
    pub(crate) fn keep(&self, reads: u64) {
        self.server.keep.store(reads, Ordering::Relaxed);
        self.auth.quota.keep(reads);
    }

    /// The registry's name, as people write it.
    #[must_use]
    pub fn host(&self) -> &RegistryHost {
        &self.server.host
    }

    /// What it was asked so far, in whatever name.
    #[must_use]
    pub fn meter(&self) -> MeterSnapshot {
        self.server.meter.snapshot()
    }

    /// Whether the tag listing tells digests: Google's registries, Azure's, and any that has done so.
    pub(crate) fn lists_digests(&self) -> bool {
        self.kind == Kind::Google || self.has_own_listing() || self.told_digests.load(Ordering::Relaxed)
    }

    /// Whether tags are listed in a way of this kind of registry alone.
    pub(crate) fn has_own_listing(&self) -> bool {
        self.kind == Kind::Acr && !self.own_listing_refused.load(Ordering::Relaxed)
    }

    /// Remembers that it is no use to ask for that in our name: it needs a right of its own.
    pub(crate) fn learn_own_listing_is_refused(&self) {
        self.own_listing_refused.store(true, Ordering::Relaxed);
    }
}

/// What is true whoever asks is at hand for everybody who asks.
impl Deref for Registry {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Server {
    fn new(host: RegistryHost, options: &Options, tempo: Tempo) -> Result<Self, RegistryError> {
        let tempo = tempo.with(options.transport.timeouts);
        let scheme = if options.plain_http { "http" } else { "https" };
        let api_host = if host.is_docker_hub() { "registry-1.docker.io" } else { host.as_str() };
        let prefix = options.transport.path_prefix.as_ref().map_or("", |prefix| prefix.as_str());
        let base: Url =
            format!("{scheme}://{api_host}{prefix}/").parse().map_err(|_| RegistryError::Address(host.clone()))?;
        let kind = options.kind.unwrap_or_else(|| Kind::of(&host));
        let limits = options.limits.in_force(&host, options.kind);
        Ok(Self {
            kind,
            upload: Manner::new(kind, options.upload),
            max_manifest: manifests::most(options.max_manifest),
            http: client(&host, &base, &tempo, &options.transport)?,
            host,
            guarded: OnceLock::new(),
            lookup: Lookup::system(),
            via: Via::new(&base, &options.transport),
            has_answered: AtomicBool::new(false),
            transport: options.transport.clone(),
            keep: AtomicU64::new(options.limits.keep),
            base,
            pace: Pace::new(&limits),
            gate: Gate::new(&limits),
            meter: Meter::default(),
            tempo,
            own_mount: OwnMount::default(),
            looks: Looks::default(),
            named_mounting: AtomicBool::new(false),
            referrers_api: AtomicU8::new(ReferrersApi::Unknown as u8),
            tag_pages: Paging::default(),
            own_tag_pages: Paging::default(),
            catalog_pages: Paging::default(),
            told_digests: AtomicBool::new(false),
            probed: tokio::sync::Mutex::new(false),
            locks: Mutex::default(),
        })
    }

    /// Facts about the way to `url`, for the words of an error.
    pub(crate) fn approach(&self, url: &Url) -> Approach {
        Approach {
            via: self.via.to(url),
            shows_certificate: self.transport.tls.identity.is_some(),
            has_answered: self.has_answered.load(Ordering::Relaxed),
        }
    }

    /// How these credentials reach who is to be asked for them. What a cloud is shown goes to a verified authority only.
    fn wire(&self, credentials: Option<&Credentials>) -> Result<Wire, RegistryError> {
        if credentials.is_some_and(Credentials::are_by_cloud)
            && let Some(how) = self.open_to_others()
        {
            return Err(RegistryError::Exposed { host: self.host.clone(), how });
        }
        let authority = match self.transport.verifying() {
            Some(transport) if credentials.is_some_and(Credentials::are_by_cloud) => {
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

    /// Why others could listen on the way to the registry. On this machine nobody is in between.
    fn open_to_others(&self) -> Option<&'static str> {
        if realm::is_loopback(&self.base) {
            None
        } else if self.base.scheme() != "https" {
            Some("by plain HTTP: leave `plain_http` out")
        } else if self.transport.tls.insecure_skip_verify {
            Some(
                "while its certificate is not looked at: name its authority in `tls.ca` instead of `insecure_skip_verify`",
            )
        } else {
            None
        }
    }

    /// The address of `path` at this registry, which begins with `/`: `/v2/…`.
    pub(crate) fn address(&self, path: &str) -> Result<Url, url::ParseError> {
        self.base.join(path.trim_start_matches('/'))
    }

    /// The HTTP client for a request of this kind to this address. A token service elsewhere, and where it redirects to, is
    /// asked at an address alone that has been judged; through a proxy the proxy resolves its name.
    pub(crate) async fn client_for(&self, kind: retry::Kind, url: &Url) -> Result<&reqwest::Client, Trouble> {
        let named = self.token_service();
        if kind != retry::Kind::Token || locate::same_origin(url, &self.base) {
            return Ok(&self.http);
        }
        let judged = realm::judge_address(url, &self.base, named, &self.lookup).await;
        judged.map_err(|error| Trouble::Unusable(error.to_string()))?;
        if named.is_some_and(|named| named.is_at(url)) || self.via.to(url).is_some() {
            return Ok(&self.http);
        }
        if let Some(client) = self.guarded.get() {
            return Ok(client);
        }
        let guard = GuardedResolver { lookup: self.lookup.clone(), registry: self.base.clone() };
        let made = connect::guarded_client(&self.base, &self.tempo, &self.transport, guard);
        let made = made.map_err(|error| Trouble::Unusable(format!("no HTTP client: {}", error.without_url())))?;
        Ok(self.guarded.get_or_init(|| made))
    }

    /// The token service that the operator named.
    pub(crate) fn token_service(&self) -> Option<&TokenService> {
        self.transport.token_service.as_ref()
    }

    /// How connections to it are made.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Names the setting that Amazon's registries need, once: without it blobs arrive all the same, each sent anew.
    pub(crate) fn mount_did_not_happen(&self) {
        if self.kind == Kind::Ecr && !self.named_mounting.swap(true, Ordering::Relaxed) {
            tracing::info!(
                registry = %self.host,
                "no blob was mounted: Amazon's mount only with the account setting BLOB_MOUNTING=ENABLED, and only blobs of images \
                 that are there; others are sent"
            );
        }
    }

    pub(crate) fn referrers_api(&self) -> ReferrersApi {
        match self.referrers_api.load(Ordering::Relaxed) {
            1 => ReferrersApi::Present,
            2 => ReferrersApi::Absent,
            _ => ReferrersApi::Unknown,
        }
    }

    /// Remembers that a tag listing told digests.
    pub(crate) fn learn_digests_are_listed(&self) {
        self.told_digests.store(true, Ordering::Relaxed);
    }

    /// Until it is known whether there is an API, one asks and the others wait for what it learns. What is returned is held
    /// by that one until it knows.
    pub(crate) async fn first_to_probe(&self) -> Option<tokio::sync::MutexGuard<'_, bool>> {
        if self.referrers_api() != ReferrersApi::Unknown {
            return None;
        }
        let mut probed = self.probed.lock().await;
        (!std::mem::replace(&mut *probed, true)).then_some(probed)
    }

    /// Remembers that there is an API, or that there is none. Once seen, it stays.
    pub(crate) fn learn_referrers_api(&self, api: ReferrersApi) {
        if self.referrers_api() != ReferrersApi::Present {
            self.referrers_api.store(api as u8, Ordering::Relaxed);
        }
    }

    /// The lock of one subject's list of referrers.
    pub(crate) fn lock_of(&self, name: &RepositoryName, subject: Digest) -> Arc<Turn> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
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

fn client(host: &RegistryHost, base: &Url, tempo: &Tempo, to: &Transport) -> Result<reqwest::Client, RegistryError> {
    connect::http_client(base, tempo, to)
        .map_err(|error| RegistryError::Client { host: host.clone(), reason: error.without_url().to_string() })
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} as {})", self.host(), self.auth.identity())
    }
}
