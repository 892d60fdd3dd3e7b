//! Access that the entries of a configuration need at each registry, by credentials: the list of checks for
//! `login-check`. A tree is expanded with the catalog of its source.

use futures_util::{StreamExt as _, stream};

use super::Endpoints;
use super::login::{AT_ONCE, LoginAnswer, PATIENCE, late};
use super::pairs::{Pair, pairs};
use crate::config::{Config, Endpoint, Entry};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::Credentials;

/// Maximum number of repositories of one tree that are checked.
const OF_A_TREE: usize = 20;

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
pub(crate) struct Wishes<'a> {
    pub(crate) credentials: Option<&'a Credentials>,
    /// Repositories, the permission for each, and the entries that need it, in the order of the configuration.
    pub(crate) rights: Vec<(RepositoryName, Right, Vec<String>)>,
    /// Answers for trees that are already known.
    pub(crate) trees: Vec<LoginAnswer>,
}

/// One registry and the credentials that are used there.
pub(crate) struct Wanted<'a> {
    pub(crate) host: RegistryHost,
    pub(crate) by: Vec<Wishes<'a>>,
    /// True if the registry is under `mirrors` of another registry.
    mirrors: bool,
}

impl<'a> Wanted<'a> {
    /// Returns true if runs continue without the registry.
    pub(crate) fn is_dispensable(&self) -> bool {
        self.mirrors && self.by.iter().all(Wishes::are_of_a_mirror)
    }

    /// Returns true if runs continue without these credentials at the registry.
    pub(crate) fn is_dispensable_as(&self, wishes: &Wishes<'_>) -> bool {
        self.mirrors && wishes.are_of_a_mirror()
    }

    fn by(&mut self, credentials: Option<&'a Credentials>) -> &mut Wishes<'a> {
        let at = self.by.iter().position(|wishes| wishes.credentials == credentials).unwrap_or(self.by.len());
        if at == self.by.len() {
            self.by.push(Wishes { credentials, rights: Vec::new(), trees: Vec::new() });
        }
        &mut self.by[at]
    }
}

impl Wishes<'_> {
    fn are_of_a_mirror(&self) -> bool {
        self.trees.is_empty() && self.rights.iter().all(|(_, right, _)| *right == Right::Mirror)
    }

    fn want(&mut self, repository: &RepositoryName, right: Right, entry: &Entry) {
        let name = entry.name.to_string();
        match self.rights.iter_mut().find(|(known, of, _)| known == repository && *of == right) {
            Some((_, _, entries)) if entries.contains(&name) => {}
            Some((_, _, entries)) => entries.push(name),
            None => self.rights.push((repository.clone(), right, vec![name])),
        }
    }
}

/// Adds the access that is needed by the entries that use these registries.
pub(crate) async fn add_wishes<'a>(
    wanted: &mut [Wanted<'a>],
    config: &'a Config,
    endpoints: &Endpoints,
    is_asked: impl Fn(&RegistryHost) -> bool,
) {
    let touches = |entry: &&Entry| {
        let mirrors = entry.source.host().map_or(&[][..], |host| config.mirrors_of(host));
        places(entry).filter_map(Endpoint::host).chain(mirrors.iter().map(|mirror| &mirror.host)).any(&is_asked)
    };
    for (entry, found) in expanded(config.entries.iter().filter(touches), endpoints).await {
        note(wanted, config, entry, found);
    }
}

fn places(entry: &Entry) -> impl Iterator<Item = &Endpoint> {
    std::iter::once(&entry.source).chain(&entry.targets)
}

/// Returns the registries in the order of the configuration, each with the credentials that are used there:
/// - first those that `registries` lists by name,
/// - then those that only entries use,
/// - then those that are only mirrors.
pub(crate) fn registries(config: &Config) -> Vec<Wanted<'_>> {
    let listed = config.registries.keys().map(|host| (host, None));
    let of_entries = config.entries.iter().flat_map(|entry| {
        let target = entry.targets.iter().map(|target| (target, entry.credentials.target.as_ref()));
        let sides = std::iter::once((&entry.source, entry.credentials.source.as_ref())).chain(target);
        sides.filter_map(|(place, credentials)| Some((place.host()?, credentials)))
    });
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    let mirrors: Vec<&RegistryHost> = config.mirrors().map(|mirror| &mirror.host).collect();
    // The credentials for a mirror are configured with the mirror.
    let of_mirrors = mirrors.iter().map(|host| (*host, None));
    for (host, credentials) in listed.chain(of_entries).chain(of_mirrors) {
        let at = wanted.iter().position(|known| known.host == *host).unwrap_or(wanted.len());
        if at == wanted.len() {
            wanted.push(Wanted { host: host.clone(), by: Vec::new(), mirrors: mirrors.contains(&host) });
        }
        wanted[at].by(credentials);
    }
    wanted
}

/// Pairs that an entry syncs, those of a tree cut off at the maximum; or the reason for which the catalog of its source
/// cannot be read.
type Expanded = Result<Pairs, String>;

#[derive(Default)]
struct Pairs {
    pairs: Vec<Pair>,
    /// True if there are more.
    more: bool,
}

async fn expanded<'a>(entries: impl Iterator<Item = &'a Entry>, endpoints: &Endpoints) -> Vec<(&'a Entry, Expanded)> {
    let expand = |entry: &'a Entry| async move {
        let found = pairs(entry, endpoints).take(OF_A_TREE + 1).collect::<Vec<_>>();
        let Ok(found) = tokio::time::timeout(PATIENCE, found).await else { return (entry, Err(late(PATIENCE))) };
        let found: Result<Vec<Pair>, String> =
            found.into_iter().map(|pair| pair.map_err(|error| error.to_string())).collect();
        let cut = |mut pairs: Vec<Pair>| {
            let more = pairs.len() > OF_A_TREE;
            pairs.truncate(OF_A_TREE);
            Pairs { pairs, more }
        };
        (entry, found.map(cut))
    };
    stream::iter(entries).map(expand).buffered(AT_ONCE).collect().await
}

/// Records the access that an entry needs at its registries.
fn note<'a>(wanted: &mut [Wanted<'a>], config: &Config, entry: &'a Entry, found: Expanded) {
    if let Endpoint::Tree { .. } = entry.source {
        note_tree(wanted, entry, &found);
    }
    let (source_as, target_as) = (entry.credentials.source.as_ref(), entry.credentials.target.as_ref());
    for Pair { source, targets } in found.unwrap_or_default().pairs {
        note_mirrors(wanted, config, entry, &source);
        let source = std::iter::once((&source, source_as, Right::Pull));
        let sides = source.chain(targets.iter().map(|target| (target, target_as, Right::Push)));
        for (place, as_whom, right) in sides {
            if let Endpoint::Repository(repository) = place
                && let Some(wanted) = at(wanted, &repository.host)
            {
                wanted.by(as_whom).want(&repository.name, right, entry);
            }
        }
    }
}

/// Records the mirrors from which a source is also read.
fn note_mirrors(wanted: &mut [Wanted<'_>], config: &Config, entry: &Entry, source: &Endpoint) {
    let Endpoint::Repository(source) = source else { return };
    for mirror in config.mirrors_of(&source.host) {
        if let (Some(name), Some(wanted)) = (mirror.name_of(&source.name), at(wanted, &mirror.host)) {
            wanted.by(None).want(&name, Right::Mirror, entry);
        }
    }
}

/// Records the result of the catalog of a tree's source.
fn note_tree<'a>(wanted: &mut [Wanted<'a>], entry: &'a Entry, found: &Expanded) {
    let told = match found {
        Ok(Pairs { more: true, .. }) => Ok(format!("readable; {OF_A_TREE} of the repositories are looked at")),
        Ok(Pairs { pairs, .. }) => Ok(format!("readable; {} has {} repositories", entry.source, pairs.len())),
        Err(why) => Err(why.clone()),
    };
    let answer = |check, told| LoginAnswer { entries: vec![entry.name.to_string()], ..LoginAnswer::new(check, told) };
    if let Some(wanted) = entry.source.host().and_then(|host| at(wanted, host)) {
        wanted.by(entry.credentials.source.as_ref()).trees.push(answer("catalog", told));
    }
    for target in entry.targets.iter().filter(|_| found.is_err()) {
        let why = format!("what goes to {target} is not known without the catalog of {}", entry.source);
        if let Some(wanted) = target.host().and_then(|host| at(wanted, host)) {
            wanted.by(entry.credentials.target.as_ref()).trees.push(answer("push", Err(why)));
        }
    }
}

fn at<'w, 'a>(wanted: &'w mut [Wanted<'a>], host: &RegistryHost) -> Option<&'w mut Wanted<'a>> {
    wanted.iter_mut().find(|wanted| wanted.host == *host)
}
