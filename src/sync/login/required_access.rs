//! List of the permissions that the entries of a configuration need, by registry and credentials. `login-check` checks
//! each permission in this list. For a tree (`team/**`), the list contains repositories from the catalog of the source.

use futures_util::{StreamExt as _, stream};

use super::answers::{CHECK_TIMEOUT, CHECKS_AT_ONCE, LoginAnswer, timeout_message};
use crate::config::{Config, Endpoint, Entry};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::Credentials;
use crate::sync::Endpoints;
use crate::sync::selection::pairs::{Pair, list_pairs};

/// Maximum number of repositories that `login-check` checks for one tree.
const MAX_REPOSITORIES: usize = 20;

/// Permission that an entry needs for a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    Pull,
    Push,
    /// Read access to a mirror. Without this access, runs read from the original registry.
    Mirror,
}

impl Right {
    /// Returns the name of the check for this permission.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Mirror => "mirror",
        }
    }
}

/// Access that the entries need at one registry with the same credentials.
pub(crate) struct RequiredAccess<'a> {
    pub(crate) credentials: Option<&'a Credentials>,
    /// Needed permissions, each with its repository and the names of the entries that need the permission. The order is
    /// the order of the configuration.
    pub(crate) rights: Vec<(RepositoryName, Right, Vec<String>)>,
    /// Results of the checks whether the catalogs of trees can be read. If a catalog cannot be read, also one failed
    /// push check for each target of the tree.
    pub(crate) trees: Vec<LoginAnswer>,
}

/// One registry, and the access that the entries need at the registry.
pub(crate) struct RequiredRegistry<'a> {
    pub(crate) host: RegistryHost,
    pub(crate) access: Vec<RequiredAccess<'a>>,
    /// True if the registry is under `mirrors` of another registry.
    is_mirror: bool,
}

impl<'a> RequiredRegistry<'a> {
    /// Returns true if the entries use the registry only as a mirror. Runs continue without a mirror.
    pub(crate) fn is_dispensable(&self) -> bool {
        self.is_mirror && self.access.iter().all(RequiredAccess::is_for_mirrors_only)
    }

    /// Returns true if the entries use these credentials only to read from a mirror. Runs continue without a mirror.
    pub(crate) fn is_dispensable_as(&self, access: &RequiredAccess<'_>) -> bool {
        self.is_mirror && access.is_for_mirrors_only()
    }

    /// Returns the access with these credentials. If there is no such access, adds an empty access.
    fn access_with(&mut self, credentials: Option<&'a Credentials>) -> &mut RequiredAccess<'a> {
        let index =
            self.access.iter().position(|access| access.credentials == credentials).unwrap_or(self.access.len());
        if index == self.access.len() {
            self.access.push(RequiredAccess { credentials, rights: Vec::new(), trees: Vec::new() });
        }
        &mut self.access[index]
    }
}

impl RequiredAccess<'_> {
    /// Returns true if the entries need only reads from mirrors.
    fn is_for_mirrors_only(&self) -> bool {
        self.trees.is_empty() && self.rights.iter().all(|(_, right, _)| *right == Right::Mirror)
    }

    /// Adds a permission that `entry` needs for a repository.
    fn require(&mut self, repository: &RepositoryName, right: Right, entry: &Entry) {
        let name = entry.name.to_string();
        match self.rights.iter_mut().find(|(known, granted, _)| known == repository && *granted == right) {
            Some((_, _, entries)) if entries.contains(&name) => {}
            Some((_, _, entries)) => entries.push(name),
            None => self.rights.push((repository.clone(), right, vec![name])),
        }
    }
}

/// Adds the access that the entries need. Skips an entry if `is_requested` returns false for all registries of the
/// entry, including the mirrors of its source.
pub(crate) async fn add_required_access<'a>(
    wanted: &mut [RequiredRegistry<'a>],
    config: &'a Config,
    endpoints: &Endpoints,
    is_requested: impl Fn(&RegistryHost) -> bool,
) {
    let touches = |entry: &&Entry| {
        let mirrors = entry.source.host().map_or(&[][..], |host| config.mirrors_of(host));
        list_sides(entry).filter_map(Endpoint::host).chain(mirrors.iter().map(|mirror| &mirror.host)).any(&is_requested)
    };
    for (entry, found) in expand_entries(config.entries.iter().filter(touches), endpoints).await {
        record_access(wanted, config, entry, found);
    }
}

/// Returns the source and the targets of an entry.
fn list_sides(entry: &Entry) -> impl Iterator<Item = &Endpoint> {
    std::iter::once(&entry.source).chain(&entry.targets)
}

/// Returns all registries of the configuration, each with the credentials that transship uses at the registry. The
/// order is:
/// - first the registries under `registries`,
/// - then registries that only entries use,
/// - then registries that are only mirrors.
pub(crate) fn list_registries(config: &Config) -> Vec<RequiredRegistry<'_>> {
    let listed = config.registries.keys().map(|host| (host, None));
    let entry_hosts = config.entries.iter().flat_map(|entry| {
        let target = entry.targets.iter().map(|target| (target, entry.credentials.target.as_ref()));
        let sides = std::iter::once((&entry.source, entry.credentials.source.as_ref())).chain(target);
        sides.filter_map(|(endpoint, credentials)| Some((endpoint.host()?, credentials)))
    });
    let mut wanted: Vec<RequiredRegistry<'_>> = Vec::new();
    let mirrors: Vec<&RegistryHost> = config.mirrors().map(|mirror| &mirror.host).collect();
    // The credentials for a mirror come from the options of the mirror, never from an entry.
    let mirror_hosts = mirrors.iter().map(|host| (*host, None));
    for (host, credentials) in listed.chain(entry_hosts).chain(mirror_hosts) {
        let index = wanted.iter().position(|known| known.host == *host).unwrap_or(wanted.len());
        if index == wanted.len() {
            wanted.push(RequiredRegistry {
                host: host.clone(),
                access: Vec::new(),
                is_mirror: mirrors.contains(&host),
            });
        }
        wanted[index].access_with(credentials);
    }
    wanted
}

/// Pairs of repositories that an entry syncs. The error is the reason why the catalog of the entry's source cannot be
/// read.
type ExpandedEntry = Result<ExpandedPairs, String>;

/// Pairs of repositories of an entry, at most [`MAX_REPOSITORIES`].
#[derive(Default)]
struct ExpandedPairs {
    pairs: Vec<Pair>,
    /// True if the entry has more than [`MAX_REPOSITORIES`] pairs.
    has_more: bool,
}

/// Lists the pairs of repositories of each entry.
async fn expand_entries<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    endpoints: &Endpoints,
) -> Vec<(&'a Entry, ExpandedEntry)> {
    let expand = |entry: &'a Entry| async move {
        let found = list_pairs(entry, endpoints, Box::new(|_| ())).take(MAX_REPOSITORIES + 1).collect::<Vec<_>>();
        let Ok(found) = tokio::time::timeout(CHECK_TIMEOUT, found).await else {
            return (entry, Err(timeout_message(CHECK_TIMEOUT)));
        };
        let found: Result<Vec<Pair>, String> =
            found.into_iter().map(|pair| pair.map_err(|error| error.to_string())).collect();
        let truncate = |mut pairs: Vec<Pair>| {
            let has_more = pairs.len() > MAX_REPOSITORIES;
            pairs.truncate(MAX_REPOSITORIES);
            ExpandedPairs { pairs, has_more }
        };
        (entry, found.map(truncate))
    };
    stream::iter(entries).map(expand).buffered(CHECKS_AT_ONCE).collect().await
}

/// Records the access that an entry needs at its registries.
fn record_access<'a>(wanted: &mut [RequiredRegistry<'a>], config: &Config, entry: &'a Entry, found: ExpandedEntry) {
    if entry.source.is_tree() {
        record_tree_answer(wanted, entry, &found);
    }
    let (source_as, target_as) = (entry.credentials.source.as_ref(), entry.credentials.target.as_ref());
    for Pair { source, targets } in found.unwrap_or_default().pairs {
        record_mirror_access(wanted, config, entry, &source);
        let source = std::iter::once((&source, source_as, Right::Pull));
        let sides = source.chain(targets.iter().map(|target| (target, target_as, Right::Push)));
        for (endpoint, credentials, right) in sides {
            if let Endpoint::Repository(repository) = endpoint
                && let Some(wanted) = find_registry(wanted, &repository.host)
            {
                wanted.access_with(credentials).require(&repository.name, right, entry);
            }
        }
    }
}

/// Records the access to the mirrors of a source.
fn record_mirror_access(wanted: &mut [RequiredRegistry<'_>], config: &Config, entry: &Entry, source: &Endpoint) {
    let Endpoint::Repository(source) = source else { return };
    for mirror in config.mirrors_of(&source.host) {
        if let (Some(name), Some(wanted)) = (mirror.name_of(&source.name), find_registry(wanted, &mirror.host)) {
            wanted.access_with(None).require(&name, Right::Mirror, entry);
        }
    }
}

/// Records whether the catalog of a tree's source can be read. If the catalog cannot be read, also records one failed
/// push check for each target.
fn record_tree_answer<'a>(wanted: &mut [RequiredRegistry<'a>], entry: &'a Entry, found: &ExpandedEntry) {
    let catalog = match found {
        Ok(ExpandedPairs { has_more: true, .. }) => {
            Ok(format!("readable; {MAX_REPOSITORIES} of its repositories are checked"))
        }
        Ok(ExpandedPairs { pairs, .. }) if pairs.is_empty() => Err(format!(
            "readable, but {} has no repositories: check the prefix, and that the credentials may list the \
             repositories",
            entry.source
        )),
        Ok(ExpandedPairs { pairs, .. }) => Ok(format!("readable; {} has {} repositories", entry.source, pairs.len())),
        Err(why) => Err(why.clone()),
    };
    let answer =
        |check, result| LoginAnswer { entries: vec![entry.name.to_string()], ..LoginAnswer::new(check, result) };
    if let Some(wanted) = entry.source.host().and_then(|host| find_registry(wanted, host)) {
        wanted.access_with(entry.credentials.source.as_ref()).trees.push(answer("catalog", catalog));
    }
    for target in entry.targets.iter().filter(|_| found.is_err()) {
        let why =
            format!("the repositories under {target} cannot be determined without the catalog of {}", entry.source);
        if let Some(wanted) = target.host().and_then(|host| find_registry(wanted, host)) {
            wanted.access_with(entry.credentials.target.as_ref()).trees.push(answer("push", Err(why)));
        }
    }
}

fn find_registry<'w, 'a>(
    wanted: &'w mut [RequiredRegistry<'a>],
    host: &RegistryHost,
) -> Option<&'w mut RequiredRegistry<'a>> {
    wanted.iter_mut().find(|wanted| wanted.host == *host)
}
