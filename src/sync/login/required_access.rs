//! Access that the entries of a configuration need at each registry, by credentials: the list of checks for
//! `login-check`. A tree is expanded with the catalog of its source.

use futures_util::{StreamExt as _, stream};

use super::answers::{CHECK_TIMEOUT, CHECKS_AT_ONCE, LoginAnswer, timeout_message};
use crate::config::{Config, Endpoint, Entry};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::Credentials;
use crate::sync::Endpoints;
use crate::sync::selection::pairs::{Pair, list_pairs};

/// Maximum number of repositories of one tree that are checked.
const MAX_REPOSITORIES: usize = 20;

/// Permission that is to be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    Pull,
    Push,
    /// Read access to a mirror. Runs continue without it.
    Mirror,
}

impl Right {
    /// Returns its name among the checks.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Mirror => "mirror",
        }
    }
}

/// Access that one set of credentials needs at one registry.
pub(crate) struct RequiredAccess<'a> {
    pub(crate) credentials: Option<&'a Credentials>,
    /// Repositories, the permission for each, and the entries that need it, in the order of the configuration.
    pub(crate) rights: Vec<(RepositoryName, Right, Vec<String>)>,
    /// Answers for trees that are already known.
    pub(crate) trees: Vec<LoginAnswer>,
}

/// One registry and the credentials that are used there.
pub(crate) struct RequiredRegistry<'a> {
    pub(crate) host: RegistryHost,
    pub(crate) access: Vec<RequiredAccess<'a>>,
    /// True if the registry is under `mirrors` of another registry.
    mirrors: bool,
}

impl<'a> RequiredRegistry<'a> {
    /// Returns true if runs continue without the registry.
    pub(crate) fn is_dispensable(&self) -> bool {
        self.mirrors && self.access.iter().all(RequiredAccess::is_of_mirror)
    }

    /// Returns true if runs continue without these credentials at the registry.
    pub(crate) fn is_dispensable_as(&self, access: &RequiredAccess<'_>) -> bool {
        self.mirrors && access.is_of_mirror()
    }

    /// Returns the access with these credentials, and adds it if necessary.
    fn access_with(&mut self, credentials: Option<&'a Credentials>) -> &mut RequiredAccess<'a> {
        let at = self.access.iter().position(|access| access.credentials == credentials).unwrap_or(self.access.len());
        if at == self.access.len() {
            self.access.push(RequiredAccess { credentials, rights: Vec::new(), trees: Vec::new() });
        }
        &mut self.access[at]
    }
}

impl RequiredAccess<'_> {
    fn is_of_mirror(&self) -> bool {
        self.trees.is_empty() && self.rights.iter().all(|(_, right, _)| *right == Right::Mirror)
    }

    fn require(&mut self, repository: &RepositoryName, right: Right, entry: &Entry) {
        let name = entry.name.to_string();
        match self.rights.iter_mut().find(|(known, granted, _)| known == repository && *granted == right) {
            Some((_, _, entries)) if entries.contains(&name) => {}
            Some((_, _, entries)) => entries.push(name),
            None => self.rights.push((repository.clone(), right, vec![name])),
        }
    }
}

/// Adds the access that is needed by the entries that use these registries.
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

fn list_sides(entry: &Entry) -> impl Iterator<Item = &Endpoint> {
    std::iter::once(&entry.source).chain(&entry.targets)
}

/// Returns the registries in the order of the configuration, each with the credentials that are used there:
/// - first those that `list_registries` lists by name,
/// - then those that only entries use,
/// - then those that are only mirrors.
pub(crate) fn list_registries(config: &Config) -> Vec<RequiredRegistry<'_>> {
    let listed = config.registries.keys().map(|host| (host, None));
    let entry_hosts = config.entries.iter().flat_map(|entry| {
        let target = entry.targets.iter().map(|target| (target, entry.credentials.target.as_ref()));
        let sides = std::iter::once((&entry.source, entry.credentials.source.as_ref())).chain(target);
        sides.filter_map(|(place, credentials)| Some((place.host()?, credentials)))
    });
    let mut wanted: Vec<RequiredRegistry<'_>> = Vec::new();
    let mirrors: Vec<&RegistryHost> = config.mirrors().map(|mirror| &mirror.host).collect();
    // The credentials for a mirror are configured with the mirror.
    let mirror_hosts = mirrors.iter().map(|host| (*host, None));
    for (host, credentials) in listed.chain(entry_hosts).chain(mirror_hosts) {
        let at = wanted.iter().position(|known| known.host == *host).unwrap_or(wanted.len());
        if at == wanted.len() {
            wanted.push(RequiredRegistry { host: host.clone(), access: Vec::new(), mirrors: mirrors.contains(&host) });
        }
        wanted[at].access_with(credentials);
    }
    wanted
}

/// Pairs that an entry syncs. Those of a tree are cut off at the maximum number. The error is the reason why the
/// catalog of the entry's source cannot be read.
type ExpandedEntry = Result<ExpandedPairs, String>;

#[derive(Default)]
struct ExpandedPairs {
    pairs: Vec<Pair>,
    /// True if there are more.
    more: bool,
}

async fn expand_entries<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    endpoints: &Endpoints,
) -> Vec<(&'a Entry, ExpandedEntry)> {
    let expand = |entry: &'a Entry| async move {
        let found = list_pairs(entry, endpoints).take(MAX_REPOSITORIES + 1).collect::<Vec<_>>();
        let Ok(found) = tokio::time::timeout(CHECK_TIMEOUT, found).await else {
            return (entry, Err(timeout_message(CHECK_TIMEOUT)));
        };
        let found: Result<Vec<Pair>, String> =
            found.into_iter().map(|pair| pair.map_err(|error| error.to_string())).collect();
        let cut = |mut pairs: Vec<Pair>| {
            let more = pairs.len() > MAX_REPOSITORIES;
            pairs.truncate(MAX_REPOSITORIES);
            ExpandedPairs { pairs, more }
        };
        (entry, found.map(cut))
    };
    stream::iter(entries).map(expand).buffered(CHECKS_AT_ONCE).collect().await
}

/// Records the access that an entry needs at its registries.
fn record_access<'a>(wanted: &mut [RequiredRegistry<'a>], config: &Config, entry: &'a Entry, found: ExpandedEntry) {
    if let Endpoint::Tree { .. } = entry.source {
        record_tree_answer(wanted, entry, &found);
    }
    let (source_as, target_as) = (entry.credentials.source.as_ref(), entry.credentials.target.as_ref());
    for Pair { source, targets } in found.unwrap_or_default().pairs {
        record_mirror_access(wanted, config, entry, &source);
        let source = std::iter::once((&source, source_as, Right::Pull));
        let sides = source.chain(targets.iter().map(|target| (target, target_as, Right::Push)));
        for (place, credentials, right) in sides {
            if let Endpoint::Repository(repository) = place
                && let Some(wanted) = find_registry(wanted, &repository.host)
            {
                wanted.access_with(credentials).require(&repository.name, right, entry);
            }
        }
    }
}

/// Records the mirrors from which a source is also read.
fn record_mirror_access(wanted: &mut [RequiredRegistry<'_>], config: &Config, entry: &Entry, source: &Endpoint) {
    let Endpoint::Repository(source) = source else { return };
    for mirror in config.mirrors_of(&source.host) {
        if let (Some(name), Some(wanted)) = (mirror.name_of(&source.name), find_registry(wanted, &mirror.host)) {
            wanted.access_with(None).require(&name, Right::Mirror, entry);
        }
    }
}

/// Records the result of the catalog of a tree's source.
fn record_tree_answer<'a>(wanted: &mut [RequiredRegistry<'a>], entry: &'a Entry, found: &ExpandedEntry) {
    let catalog = match found {
        Ok(ExpandedPairs { more: true, .. }) => {
            Ok(format!("readable; {MAX_REPOSITORIES} of the repositories are looked at"))
        }
        Ok(ExpandedPairs { pairs, .. }) => Ok(format!("readable; {} has {} repositories", entry.source, pairs.len())),
        Err(why) => Err(why.clone()),
    };
    let answer =
        |check, result| LoginAnswer { entries: vec![entry.name.to_string()], ..LoginAnswer::new(check, result) };
    if let Some(wanted) = entry.source.host().and_then(|host| find_registry(wanted, host)) {
        wanted.access_with(entry.credentials.source.as_ref()).trees.push(answer("catalog", catalog));
    }
    for target in entry.targets.iter().filter(|_| found.is_err()) {
        let why = format!("what goes to {target} is not known without the catalog of {}", entry.source);
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
