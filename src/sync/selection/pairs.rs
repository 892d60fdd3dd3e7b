//! Pairs of repositories of an entry: one pair, or one for each repository in the source's catalog.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use crate::config::{Endpoint, Entry};
use crate::oci::{RegistryHost, Repository, RepositoryName};
use crate::store::{Source, Target};
use crate::sync::{AccessContext, Endpoints, OpenError};

/// Pair of repositories: a source and its targets.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) source: Endpoint,
    pub(crate) targets: Vec<Endpoint>,
}

/// Opened [`Pair`] that can be read and written.
#[derive(Debug)]
pub(crate) struct OpenPair {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) targets: Vec<Arc<dyn Target>>,
}

impl Pair {
    /// Opens the source and the targets for `entry`, with the credentials that the entry has for source and targets.
    pub(crate) fn open(&self, entry: &Entry, endpoints: &Endpoints) -> Result<OpenPair, OpenError> {
        let source = endpoints.source(&self.source, AccessContext::at_source(entry))?;
        let target = |target| endpoints.target(target, AccessContext::at_target(entry));
        let targets = self.targets.iter().map(target).collect::<Result<_, _>>()?;
        Ok(OpenPair { source, targets })
    }
}

/// Function that is called with each repository below the prefix of a tree, selected or not.
pub(crate) type NameObserver<'a> = Box<dyn Fn(&str) + Send + Sync + 'a>;

/// Lists the pairs of an entry. Yields each pair as soon as the catalog contains its source.
pub(crate) fn list_pairs<'a>(
    entry: &'a Entry,
    endpoints: &'a Endpoints,
    observe: NameObserver<'a>,
) -> BoxStream<'a, Result<Pair, OpenError>> {
    let Endpoint::Tree { host, prefix } = &entry.source else {
        let pair = Pair { source: entry.source.clone(), targets: entry.targets.clone() };
        return stream::iter([Ok(pair)]).boxed();
    };
    let credentials = entry.credentials.source.as_ref();
    let registry = match prefix {
        Some(prefix) => endpoints.registry_below(host, prefix, credentials),
        None => endpoints.registry(host, credentials),
    };
    let registry = match registry {
        Ok(registry) => registry,
        Err(error) => return stream::iter([Err(error)]).boxed(),
    };
    registry
        .catalog()
        .filter_map(move |name| {
            let pair = match name {
                Ok(name) => {
                    path_in_tree(&name, prefix.as_ref()).into_iter().for_each(&observe);
                    pair_in_tree(entry, host, prefix.as_ref(), name).map(Ok)
                }
                Err(error) => Some(Err(error.into())),
            };
            std::future::ready(pair)
        })
        .boxed()
}

/// Returns the pair of one repository of an entry's tree; `None` if the repository is outside the tree,
/// or the entry does not select it.
pub(crate) fn pair_in_tree(
    entry: &Entry,
    host: &RegistryHost,
    prefix: Option<&RepositoryName>,
    name: RepositoryName,
) -> Option<Pair> {
    let rest = path_in_tree(&name, prefix).filter(|rest| entry.repositories.takes(rest))?;
    let targets = entry.targets.iter().filter_map(|target| join_tree(target, rest)).collect();
    let source = Endpoint::Repository(Repository { host: host.clone(), name });
    Some(Pair { source, targets })
}

/// Returns the source from which `entry` writes to `target`; `None` if the entry does not write to `target`. The search
/// for tag conflicts uses this function.
pub(crate) fn source_for_target(entry: &Entry, target: &Endpoint) -> Option<Endpoint> {
    entry.targets.iter().find_map(|claimed| match (claimed, target, &entry.source) {
        (Endpoint::Tree { host, prefix }, Endpoint::Repository(repository), Endpoint::Tree { .. }) => {
            let rest = path_in_tree(&repository.name, prefix.as_ref()).filter(|_| repository.host == *host)?;
            let rest = Some(rest).filter(|rest| entry.repositories.takes(rest))?;
            join_tree(&entry.source, rest)
        }
        (claimed, target, source) => claimed.is_same_place(target).then(|| source.clone()),
    })
}

/// Returns the part of a name after `prefix/`; `None` if the name is not below the prefix.
fn path_in_tree<'a>(name: &'a RepositoryName, prefix: Option<&RepositoryName>) -> Option<&'a str> {
    match prefix {
        Some(prefix) => name.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/'),
        None => Some(name.as_str()),
    }
}

/// Returns the repository `rest` of a tree; `None` if the whole name is not valid, for example too long.
fn join_tree(tree: &Endpoint, rest: &str) -> Option<Endpoint> {
    let Endpoint::Tree { host, prefix } = tree else { return None };
    let name = match prefix {
        Some(prefix) => format!("{prefix}/{rest}").parse().ok()?,
        None => rest.parse().ok()?,
    };
    Some(Endpoint::Repository(Repository { host: host.clone(), name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn path_below_the_stars_maps_to_the_target() {
        let name: RepositoryName = "team/a/b".parse().unwrap();
        let rest = path_in_tree(&name, Some(&"team".parse().unwrap())).unwrap();
        assert_eq!(join_tree(&endpoint("prod.example/mirror/**"), rest), Some(endpoint("prod.example/mirror/a/b")));
        assert_eq!(join_tree(&endpoint("prod.example/**"), rest), Some(endpoint("prod.example/a/b")));
        assert_eq!(path_in_tree(&"teams/a".parse().unwrap(), Some(&"team".parse().unwrap())), None);
        assert_eq!(path_in_tree(&"team".parse().unwrap(), Some(&"team".parse().unwrap())), None);
    }
}
