//! What the entries of a configuration want of each registry, in whose name: what `login-check` is to ask for. Trees are looked
//! into by the catalog of their source.

use futures_util::{StreamExt as _, stream};

use super::Endpoints;
use super::login::{AT_ONCE, LoginAnswer, PATIENCE, late};
use super::pairs::{Pair, pairs};
use crate::config::{Config, Endpoint, Entry};
use crate::oci::{RegistryHost, RepositoryName};
use crate::registry::Credentials;

/// How many repositories of one tree are looked at.
const OF_A_TREE: usize = 20;

/// What is to be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Right {
    Pull,
    Push,
    /// Reading what a mirror has, without which runs go on.
    Mirror,
}

impl Right {
    /// Its name among the checks.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Mirror => "mirror",
        }
    }
}

/// What is wanted of one registry by who is to be somebody there.
pub(crate) struct Wishes<'a> {
    pub(crate) credentials: Option<&'a Credentials>,
    /// In the order of the configuration.
    pub(crate) rights: Vec<(RepositoryName, Right, Vec<String>)>,
    /// What is known of trees already.
    pub(crate) trees: Vec<LoginAnswer>,
}

/// One registry and who is to be somebody there.
pub(crate) struct Wanted<'a> {
    pub(crate) host: RegistryHost,
    pub(crate) by: Vec<Wishes<'a>>,
    /// Whether it stands under `mirrors` of another.
    mirrors: bool,
}

impl<'a> Wanted<'a> {
    /// Whether runs go on without the registry.
    pub(crate) fn is_dispensable(&self) -> bool {
        self.mirrors && self.by.iter().all(Wishes::are_of_a_mirror)
    }

    /// Whether runs go on without being this one there.
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

/// Adds what the entries that are about these registries want.
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

/// The registries in the order of the configuration, each with who is to be somebody there: those that it lists by their
/// names, then those of entries alone, then those that are mirrors alone.
pub(crate) fn registries(config: &Config) -> Vec<Wanted<'_>> {
    let listed = config.registries.keys().map(|host| (host, None));
    let of_entries = config.entries.iter().flat_map(|entry| {
        let target = entry.targets.iter().map(|target| (target, entry.credentials.target.as_ref()));
        let sides = std::iter::once((&entry.source, entry.credentials.source.as_ref())).chain(target);
        sides.filter_map(|(place, credentials)| Some((place.host()?, credentials)))
    });
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    let mirrors: Vec<&RegistryHost> = config.mirrors().map(|mirror| &mirror.host).collect();
    // Who to be at a mirror stands with the mirror.
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

/// The pairs that an entry is about, those of a tree cut off; or why the catalog of its source cannot be read.
type Expanded = Result<Pairs, String>;

#[derive(Default)]
struct Pairs {
    pairs: Vec<Pair>,
    /// Whether there are more.
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

/// Writes down what an entry wants of its registries.
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

/// Writes down where else a source is read.
fn note_mirrors(wanted: &mut [Wanted<'_>], config: &Config, entry: &Entry, source: &Endpoint) {
    let Endpoint::Repository(source) = source else { return };
    for mirror in config.mirrors_of(&source.host) {
        if let (Some(name), Some(wanted)) = (mirror.name_of(&source.name), at(wanted, &mirror.host)) {
            wanted.by(None).want(&name, Right::Mirror, entry);
        }
    }
}

/// Writes down what the catalog of a tree's source told.
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
