//! Registry clients and layout handles that all entries share. A registry has one client for each set of credentials,
//! and a layout has one handle.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use parking_lot::Mutex;

use super::pull_quotas::PullQuotas;
use crate::config::{Config, Endpoint, Entry, differ_in_limits_alone};
use crate::copy::event::LeftBehind;
use crate::json_form;
use crate::layout::{Layout, TreeError};
use crate::oci::{NameError, RegistryHost, Repository, RepositoryName};
use crate::registry::{
    Bandwidth, Credentials, Mirror, MirrorHealth, Mirrored, Options, QuotaState, Registry, RegistryError, Tenant,
    Throttle,
};
use crate::store::{Side, Source, StoreError, Target};

/// Open registry clients and layouts of one configuration.
#[derive(Debug, Default)]
pub struct Endpoints {
    options: BTreeMap<RegistryHost, Options>,
    /// Options for all registries that `options` does not contain.
    unlisted: Options,
    /// Bandwidth limit of all registries together.
    bandwidth: Arc<Throttle>,
    registries: Mutex<HashMap<RegistryHost, Clients>>,
    layouts: Mutex<HashMap<(PathBuf, LayoutKind), Arc<Layout>>>,
    /// Health of the mirrors. After a reload of the configuration, transship forgets earlier failures and tries every
    /// mirror again.
    mirrors: Arc<MirrorHealth>,
    /// Known pull quotas. A new client gets its quotas from this field.
    quotas: Arc<PullQuotas>,
}

/// Registry that has rate-limited transship: the registry answered 429 or 503 with `Retry-After`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RateLimited {
    /// Host of the registry.
    pub registry: String,
    /// End of the pause.
    #[serde(serialize_with = "json_form::instant")]
    pub until: DateTime<Utc>,
}

impl RateLimited {
    /// Returns a text such as `docker.io (rate limited until 2026-11-21T03:00:00Z)`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let until = self.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        format!("{} (rate limited until {until})", self.registry)
    }
}

/// Credentials with which a caller opens an endpoint, and the tenant (the entry) that causes the requests. The default
/// has the credentials from the registry's options and no particular tenant.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessContext<'a> {
    tenant: Tenant,
    /// Credentials of the entry. `None` if the entry uses the credentials in the registry's options.
    credentials: Option<&'a Credentials>,
    /// Source of the entry, or all targets of the entry. Each endpoint can be a tree.
    places: &'a [Endpoint],
}

/// Kind of a layout on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum LayoutKind {
    /// A folder.
    Folder,
    /// The folder of a repository in a tree of layouts.
    InTree {
        /// Folder of the tree.
        root: PathBuf,
        /// Repository.
        name: RepositoryName,
    },
    /// A tar file to which runs write. Reads also return content that the run has not published yet.
    Archive,
    /// A tar file. Reads return only published content.
    PublishedArchive,
}

impl<'a> AccessContext<'a> {
    /// Creates the context of an entry at its source.
    #[must_use]
    pub fn at_source(entry: &'a Entry) -> Self {
        Self {
            tenant: Tenant::from_name(entry.name.as_str()),
            credentials: entry.credentials.source.as_ref(),
            places: std::slice::from_ref(&entry.source),
        }
    }

    /// Creates the context of an entry at its targets.
    #[must_use]
    pub fn at_target(entry: &'a Entry) -> Self {
        Self {
            tenant: Tenant::from_name(entry.name.as_str()),
            credentials: entry.credentials.target.as_ref(),
            places: &entry.targets,
        }
    }

    /// Returns [`LayoutKind::InTree`] if an endpoint of the entry is a tree that contains `path`. Otherwise returns
    /// [`LayoutKind::Folder`].
    fn layout_kind(&self, path: &Path) -> LayoutKind {
        let in_tree = |place: &Endpoint| {
            let Endpoint::LayoutTree(root) = place else { return None };
            let name = path.strip_prefix(root).ok()?.to_str()?.parse().ok()?;
            Some(LayoutKind::InTree { root: root.clone(), name })
        };
        self.places.iter().find_map(in_tree).unwrap_or(LayoutKind::Folder)
    }
}

/// Clients of one registry. The clients share all state except the credentials.
#[derive(Debug, Clone)]
struct Clients {
    /// The client with the credentials in the registry's options.
    own: Arc<Registry>,
    /// The clients with credentials of entries, one client for each set of credentials.
    others: Vec<(Credentials, Arc<Registry>)>,
}

impl Clients {
    fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        std::iter::once(&self.own).chain(self.others.iter().map(|(_, other)| other))
    }

    /// Returns the client with these credentials. Creates the client if necessary.
    fn get_or_create(
        &mut self,
        credentials: Option<&Credentials>,
        quotas: &PullQuotas,
    ) -> Result<Arc<Registry>, RegistryError> {
        // Two clients with the same credentials would count the pull quota of these credentials separately.
        let Some(credentials) = credentials.filter(|credentials| !self.own.uses_credentials(credentials)) else {
            return Ok(Arc::clone(&self.own));
        };
        if let Some((_, known)) = self.others.iter().find(|(other, _)| other == credentials) {
            return Ok(Arc::clone(known));
        }
        let registry = self.own.with_identity(Some(credentials.clone()))?;
        quotas.apply_to(&registry);
        self.others.push((credentials.clone(), Arc::clone(&registry)));
        Ok(registry)
    }
}

/// Failure to open an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The client of a registry cannot be created.
    #[error("{host}: {reason}")]
    Client {
        /// The registry.
        host: RegistryHost,
        /// The cause.
        reason: String,
    },
    /// The endpoint is a tree of repositories, but one repository is needed.
    #[error("{0} is a tree of repositories, but one repository is needed")]
    Tree(String),
    /// The endpoint is one repository, but a tree of repositories is needed.
    #[error("{0} is one repository, but a tree of repositories is needed")]
    Single(String),
    /// A tree of layouts cannot be listed, or cannot contain the layout of a repository.
    #[error("{place}: {error}")]
    Layouts {
        /// The side of the tree.
        side: Side,
        /// The tree.
        place: String,
        /// The cause.
        error: TreeError,
    },
    /// The name of a repository below a target's prefix is not valid, for example too long.
    #[error("{place}: {error}")]
    Name {
        /// The tree.
        place: String,
        /// The cause.
        error: NameError,
    },
    /// A request to a registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// If the error is an unreadable folder in a tree of layouts, returns this folder as an item that the run does not
    /// copy. For any other error, returns `None`, and the caller must report a failure.
    pub(crate) fn left_behind(&self) -> Option<LeftBehind> {
        let Self::Layouts { error: TreeError::FolderUnreadable { path, reason }, .. } = self else { return None };
        let reason = format!("{reason}: allow transship to read the folder, or remove it from the tree");
        Some(LeftBehind { what: format!("layouts below {}", path.display()), reason })
    }

    /// Returns the error message after the word `source` or `target`. Call this only for an error from the listing of
    /// an entry's pairs.
    pub(crate) fn with_side(&self) -> String {
        match self {
            Self::Layouts { side, .. } => format!("{side} {self}"),
            Self::Name { .. } => format!("target {self}"),
            Self::Client { .. } | Self::Tree(_) | Self::Single(_) | Self::Store(_) => format!("source {self}"),
        }
    }
}

fn warn_of_tls((host, options): (&RegistryHost, &Options)) {
    if let Some(warning) = options.transport.tls.warning() {
        tracing::warn!(registry = %host, "{warning}");
    }
}

impl Endpoints {
    /// Creates endpoints with these options. `unlisted` applies to registries that `options` does not contain.
    #[must_use]
    pub fn new(options: BTreeMap<RegistryHost, Options>, unlisted: Options) -> Self {
        options.iter().for_each(warn_of_tls);
        Self { options, unlisted, ..Self::default() }
    }

    /// Sets the bandwidth limit of all registries together. `None` means no limit.
    #[must_use]
    pub fn within(self, bandwidth: Option<Bandwidth>) -> Self {
        self.bandwidth.set(bandwidth);
        self
    }

    /// Creates the endpoints for a reloaded configuration. `changed` contains the registries whose options changed.
    ///
    /// - Registries whose options did not change, and layouts, stay open.
    /// - Registries and credentials that the configuration no longer names are dropped.
    /// - Changed limits apply at once, also to clients that are already open.
    /// - All other changes of options apply only to endpoints that are opened after the reload. While a run still uses
    ///   an old client, the old client and the new client each have their own limits.
    #[must_use]
    pub fn reconfigured(&self, config: &Config, changed: &[RegistryHost]) -> Self {
        let mut registries = self.registries.lock().clone();
        let options = config.registries.clone();
        let named = config.hosts();
        registries.retain(|host, clients| {
            let [old, new] = [&self.options, &options].map(|options| options.get(host).unwrap_or(&self.unlisted));
            clients.iter().for_each(|client| client.set_limits(&new.limits));
            named.contains(host) && (!changed.contains(host) || differ_in_limits_alone(old, new))
        });
        let named: Vec<&Credentials> = config.entries.iter().flat_map(|entry| entry.credentials.both()).collect();
        for clients in registries.values_mut() {
            clients.others.retain(|(credentials, _)| named.contains(&credentials));
        }
        options.iter().filter(|(host, _)| changed.contains(host)).for_each(warn_of_tls);
        let layouts = self.layouts.lock().clone();
        Self {
            options,
            unlisted: self.unlisted.clone(),
            bandwidth: Arc::clone(&self.bandwidth),
            registries: Mutex::new(registries),
            layouts: Mutex::new(layouts),
            mirrors: Arc::default(),
            quotas: Arc::clone(&self.quotas),
        }
    }

    /// Returns the client of a registry with `credentials`. Without `credentials`, the client uses the credentials in
    /// the registry's options. All clients of a registry share the limits of the registry.
    ///
    /// # Errors
    /// [`OpenError::Client`] if the client cannot be created.
    pub fn registry(&self, host: &RegistryHost, credentials: Option<&Credentials>) -> Result<Arc<Registry>, OpenError> {
        let no_client = |error: RegistryError| OpenError::Client { host: host.clone(), reason: error.to_string() };
        let mut registries = self.registries.lock();
        if let Some(clients) = registries.get_mut(host) {
            return clients.get_or_create(credentials, &self.quotas).map_err(no_client);
        }
        let options = self.options.get(host).unwrap_or(&self.unlisted).clone();
        let own = Registry::new(host.clone(), options).map_err(no_client)?;
        own.share_bandwidth(Arc::clone(&self.bandwidth));
        self.quotas.apply_to(&own);
        let clients = registries.entry(host.clone()).or_insert(Clients { own, others: Vec::new() });
        clients.get_or_create(credentials, &self.quotas).map_err(no_client)
    }

    /// Returns one client for each open registry, for the metrics. The counters of this client include the requests of
    /// all other clients of the registry.
    #[must_use]
    pub fn registries(&self) -> Vec<Arc<Registry>> {
        let registries = self.registries.lock();
        registries.values().map(|clients| Arc::clone(&clients.own)).collect()
    }

    /// Returns all open clients of all registries.
    pub(crate) fn clients(&self) -> Vec<Arc<Registry>> {
        let registries = self.registries.lock();
        registries.values().flat_map(Clients::iter).cloned().collect()
    }

    /// Returns the registries that have rate-limited transship, with the end of each requested pause, sorted by host.
    /// `now` is the current time.
    #[must_use]
    pub fn rate_limited(&self, now: DateTime<Utc>) -> Vec<RateLimited> {
        let mut limited: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
        for client in self.clients() {
            let wait = client.load().paused_for.and_then(|wait| TimeDelta::from_std(wait).ok());
            if let Some(until) = wait.and_then(|wait| now.checked_add_signed(wait)) {
                let latest = limited.entry(client.host().to_string()).or_insert(until);
                *latest = until.max(*latest);
            }
        }
        limited.into_iter().map(|(registry, until)| RateLimited { registry, until }).collect()
    }

    /// Opens an endpoint to read from, without sending a request.
    ///
    /// # Errors
    /// [`OpenError`] if the endpoint cannot be opened.
    pub fn source(&self, endpoint: &Endpoint, access: AccessContext<'_>) -> Result<Arc<dyn Source>, OpenError> {
        match endpoint {
            Endpoint::Repository(repository) => self.open_readable(repository, access),
            Endpoint::Layout(path) => Ok(self.layout(path, access.layout_kind(path))),
            Endpoint::Archive(path) => Ok(self.layout(path, LayoutKind::PublishedArchive)),
            Endpoint::Tree { .. } | Endpoint::LayoutTree(_) => Err(OpenError::Tree(endpoint.to_string())),
        }
    }

    /// Opens a repository to read from. Reads also use the mirrors of the repository's registry. Mirrors of a mirror
    /// are ignored.
    fn open_readable(&self, repository: &Repository, access: AccessContext<'_>) -> Result<Arc<dyn Source>, OpenError> {
        let origin = self.repository(repository, access)?;
        let mirrors = self.options.get(&repository.host).unwrap_or(&self.unlisted).transport.mirrors.iter();
        // The credentials for a mirror come from the options of the mirror. The entry's credentials are only for the
        // original registry.
        let access = AccessContext { credentials: None, ..access };
        let open = |mirror: &Mirror| Some((mirror.clone(), self.open_mirror(mirror, repository, access)?));
        let copies: Vec<_> = mirrors.filter_map(open).collect();
        if copies.is_empty() {
            return Ok(Arc::new(origin));
        }
        Ok(Arc::new(Mirrored::new(origin, copies, self.mirrors.clone())))
    }

    /// Opens the copy of a repository at a mirror. If the mirror cannot be opened, logs a warning and returns `None`.
    fn open_mirror(
        &self,
        mirror: &Mirror,
        repository: &Repository,
        access: AccessContext<'_>,
    ) -> Option<crate::registry::Repository> {
        let name = mirror.name_of(&repository.name)?;
        let opened = self.repository(&Repository { host: mirror.host.clone(), name }, access);
        opened.inspect_err(|error| tracing::warn!(%mirror, %error, "a mirror cannot be opened")).ok()
    }

    /// Opens an endpoint to write to, without sending a request.
    ///
    /// # Errors
    /// [`OpenError`] if the endpoint cannot be opened.
    pub fn target(&self, endpoint: &Endpoint, access: AccessContext<'_>) -> Result<Arc<dyn Target>, OpenError> {
        match endpoint {
            Endpoint::Repository(repository) => Ok(Arc::new(self.repository(repository, access)?.for_writing())),
            Endpoint::Layout(path) => Ok(self.layout(path, access.layout_kind(path))),
            Endpoint::Archive(path) => Ok(self.layout(path, LayoutKind::Archive)),
            Endpoint::Tree { .. } | Endpoint::LayoutTree(_) => Err(OpenError::Tree(endpoint.to_string())),
        }
    }

    /// Passes the pull quotas from the journal to all clients, including clients that are created later.
    pub(crate) fn set_known_quotas(&self, quotas: Vec<QuotaState>) {
        self.quotas.set_known(quotas);
        self.clients().iter().for_each(|registry| self.quotas.apply_to(registry));
    }

    /// Returns the pull quotas that registries have reported since the last call.
    pub(crate) fn take_unrecorded_quotas(&self) -> Vec<QuotaState> {
        self.quotas.take_unrecorded(&self.clients())
    }

    fn repository(
        &self,
        repository: &Repository,
        access: AccessContext<'_>,
    ) -> Result<crate::registry::Repository, OpenError> {
        let registry = self.registry_below(&repository.host, &repository.name, access.credentials)?;
        Ok(registry.repository(repository.name.clone()).for_tenant(access.tenant))
    }

    /// Returns the client of a registry for `name`, which is a repository or the prefix of a tree. If Docker's
    /// configuration has credentials for a namespace that contains `name`, the client uses the credentials of the
    /// longest such namespace. Otherwise returns the client from [`Self::registry`].
    ///
    /// # Errors
    /// [`OpenError::Client`] if the client cannot be created.
    pub(crate) fn registry_below(
        &self,
        host: &RegistryHost,
        name: &RepositoryName,
        credentials: Option<&Credentials>,
    ) -> Result<Arc<Registry>, OpenError> {
        let registry = self.registry(host, credentials)?;
        match registry.namespace_credentials(name) {
            Some(credentials) => self.registry(host, Some(&credentials)),
            None => Ok(registry),
        }
    }

    /// Opens a target to check the content that earlier runs wrote. From an archive, reads return only published
    /// content.
    ///
    /// # Errors
    /// [`OpenError`] if the endpoint cannot be opened.
    pub(crate) fn published_target(
        &self,
        endpoint: &Endpoint,
        access: AccessContext<'_>,
    ) -> Result<Arc<dyn Target>, OpenError> {
        match endpoint {
            Endpoint::Archive(path) => Ok(self.layout(path, LayoutKind::PublishedArchive)),
            _ => self.target(endpoint, access),
        }
    }

    /// Returns the archives among `targets`.
    pub(crate) fn archives(&self, targets: &[Endpoint]) -> Vec<Arc<Layout>> {
        let archive = |target: &Endpoint| match target {
            Endpoint::Archive(path) => Some(self.layout(path, LayoutKind::Archive)),
            _ => None,
        };
        targets.iter().filter_map(archive).collect()
    }

    fn layout(&self, path: &Path, kind: LayoutKind) -> Arc<Layout> {
        let open = |(path, kind): &(PathBuf, LayoutKind)| match kind {
            LayoutKind::Folder => Layout::open(path),
            LayoutKind::InTree { root, name } => Layout::open_in_tree(root, name),
            LayoutKind::Archive | LayoutKind::PublishedArchive => Layout::open_archive(path),
        };
        self.layouts.lock().entry((path.to_owned(), kind)).or_insert_with_key(open).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(reader: &str, more: &str) -> Config {
        let text = format!(
            "{{version: 1, daemon: {{journal: /tmp/x}}, registries: {{a.example: {{{more}}}}}, sync: [\
             {{name: x, source: a.example/x, target: b.example/x, \
             credentials: {{source: {{username: {reader}, password: one}}}}}}]}}"
        );
        crate::config::parse("sync.yaml", &text, &|_| None).unwrap()
    }

    fn entry_client(endpoints: &Endpoints, config: &Config) -> Arc<Registry> {
        let entry = &config.entries[0];
        endpoints.registry(entry.source.host().unwrap(), entry.credentials.source.as_ref()).unwrap()
    }

    #[test]
    fn identities_of_a_host_get_separate_clients() {
        let config = config("me", "");
        let host: RegistryHost = "a.example".parse().unwrap();
        let endpoints = Endpoints::new(config.registries.clone(), Options::default());
        let (own, me) = (endpoints.registry(&host, None).unwrap(), entry_client(&endpoints, &config));
        assert!(!Arc::ptr_eq(&own, &me) && Arc::ptr_eq(&me, &entry_client(&endpoints, &config)));
        assert!(Arc::ptr_eq(&own, &endpoints.registry(&host, None).unwrap()));
        assert_eq!(endpoints.registries().len(), 1);
        assert_eq!(format!("{own:?} {me:?}"), "Registry(a.example as anonymous) Registry(a.example as me)");
    }

    #[test]
    fn same_credentials_as_the_registry_share_its_client() {
        let nobody = config("me", "");
        let endpoints = Endpoints::new(nobody.registries.clone(), Options::default());
        let own = endpoints.registry(&"a.example".parse().unwrap(), None).unwrap();
        let anonymous = endpoints.registry(own.host(), Some(&Credentials::Anonymous)).unwrap();
        assert!(Arc::ptr_eq(&own, &anonymous), "one quota for one identity");
        let me = config("me", "credentials: {username: me, password: one}");
        let endpoints = Endpoints::new(me.registries.clone(), Options::default());
        let own = endpoints.registry(own.host(), None).unwrap();
        assert!(Arc::ptr_eq(&own, &entry_client(&endpoints, &me)));
        assert!(!Arc::ptr_eq(&own, &endpoints.registry(own.host(), Some(&Credentials::Anonymous)).unwrap()));
    }

    #[test]
    fn reload_keeps_clients_that_are_still_named() {
        let before = config("me", "");
        let endpoints = Endpoints::new(before.registries.clone(), Options::default());
        let me = entry_client(&endpoints, &before);
        let same = endpoints.reconfigured(&before, &[]);
        assert!(Arc::ptr_eq(&me, &entry_client(&same, &before)));
        let other = endpoints.reconfigured(&config("you", ""), &[]);
        assert!(other.registries.lock().values().all(|clients| clients.others.is_empty()));
        let after = config("me", "plain_http: true");
        let other = endpoints.reconfigured(&after, &["a.example".parse().unwrap()]);
        assert!(!Arc::ptr_eq(&me, &entry_client(&other, &after)));
    }

    #[tokio::test]
    async fn sources_and_checks_see_only_published_archives() {
        use crate::oci::{Manifest, ManifestRef, MediaType};
        let folder = tempfile::tempdir().unwrap();
        let archive: Endpoint = format!("oci-archive:{}/x.tar", folder.path().display()).parse().unwrap();
        let endpoints = Endpoints::default();
        let access = AccessContext::default();
        let target = endpoints.target(&archive, access).unwrap();
        let body = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
        let manifest = Manifest::new(MediaType::new(MediaType::OCI_INDEX), body.into());
        let reference: ManifestRef = "v1".parse::<crate::oci::Tag>().unwrap().into();
        target.push_manifest(&manifest, Some(&"v1".parse().unwrap())).await.unwrap();
        let readers = [
            endpoints.source(&archive, access).unwrap().resolve(&reference).await.unwrap(),
            endpoints.published_target(&archive, access).unwrap().resolve(&reference).await.unwrap(),
        ];
        assert_eq!(readers, [None, None]);
        assert!(target.resolve(&reference).await.unwrap().is_some());
        endpoints.archives(std::slice::from_ref(&archive))[0].publish().await.unwrap();
        assert!(endpoints.source(&archive, access).unwrap().resolve(&reference).await.unwrap().is_some());
    }

    #[test]
    fn layout_in_a_tree_of_either_side_is_opened_below_the_tree() {
        let text = "{version: 1, daemon: {journal: /tmp/x}, sync: [\
             {name: x, source: \"oci-layout:/in/**\", target: \"oci-layout:/out/**\"}]}";
        let config = crate::config::parse("sync.yaml", text, &|_| None).unwrap();
        let entry = &config.entries[0];
        let in_tree = |root: &str| LayoutKind::InTree { root: root.into(), name: "team/app".parse().unwrap() };
        let (source, target) = (AccessContext::at_source(entry), AccessContext::at_target(entry));
        assert_eq!(source.layout_kind(Path::new("/in/team/app")), in_tree("/in"));
        assert_eq!(target.layout_kind(Path::new("/out/team/app")), in_tree("/out"));
        assert_eq!(target.layout_kind(Path::new("/in/team/app")), LayoutKind::Folder);
    }
}
