//! Pairs of repositories of an entry. A pair is one source and its targets. An entry with a tree (`team/**`) has one
//! pair for each repository in the tree. Any other entry has one pair.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, stream};

use crate::config::{Endpoint, Entry};
use crate::layout::{find_layouts, layout_path};
use crate::oci::{NameError, RegistryHost, Repository, RepositoryName};
use crate::store::{Side, Source, Target};
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

/// Function that receives the name of each repository in a tree, even if the entry does not select the repository. The
/// name is the part below the prefix of the tree.
pub(crate) type NameObserver<'a> = Box<dyn Fn(&str) + Send + Sync + 'a>;

/// Lists the pairs of an entry. Yields each pair as soon as the registry's catalog returns the source of the pair.
pub(crate) fn list_pairs<'a>(
    entry: &'a Entry,
    endpoints: &'a Endpoints,
    observe: NameObserver<'a>,
) -> BoxStream<'a, Result<Pair, OpenError>> {
    match &entry.source {
        Endpoint::Tree { host, prefix } => list_catalog(entry, endpoints, host, prefix.as_ref(), observe),
        Endpoint::LayoutTree(root) => stream::once(list_layouts(entry, root.clone(), observe)).flatten().boxed(),
        Endpoint::Repository(_) | Endpoint::Layout(_) | Endpoint::Archive(_) => {
            let pair = Pair { source: entry.source.clone(), targets: entry.targets.clone() };
            stream::iter([Ok(pair)]).boxed()
        }
    }
}

/// Lists the pairs of the repositories in a registry's catalog.
fn list_catalog<'a>(
    entry: &'a Entry,
    endpoints: &Endpoints,
    host: &'a RegistryHost,
    prefix: Option<&RepositoryName>,
    observe: NameObserver<'a>,
) -> BoxStream<'a, Result<Pair, OpenError>> {
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
                    let source = Endpoint::Repository(Repository { host: host.clone(), name });
                    observed_pair(entry, source, &observe)
                }
                Err(error) => Some(Err(error.into())),
            };
            std::future::ready(pair)
        })
        .boxed()
}

/// Lists the pairs of the layouts below a folder.
async fn list_layouts<'a>(
    entry: &'a Entry,
    root: PathBuf,
    observe: NameObserver<'a>,
) -> impl Stream<Item = Result<Pair, OpenError>> + use<'a> {
    let folder = root.clone();
    let found = tokio::task::spawn_blocking(move || find_layouts(&folder)).await.unwrap_or_default();
    let pairs = found.into_iter().filter_map(|name| match name {
        Ok(name) => observed_pair(entry, Endpoint::Layout(root.join(name.as_str())), &observe),
        Err(error) => Some(Err(OpenError::Layouts { side: Side::Source, place: entry.source.to_string(), error })),
    });
    stream::iter(pairs.collect::<Vec<_>>())
}

/// If a source is in an entry's tree, passes the name of the source to the observer. Returns the result of
/// [`pair_in_tree`].
fn observed_pair(entry: &Entry, source: Endpoint, observe: &NameObserver<'_>) -> Option<Result<Pair, OpenError>> {
    path_in_tree(&entry.source, &source).iter().for_each(|name| observe(name));
    pair_in_tree(entry, source)
}

/// Returns the pair of one source in an entry's tree. Returns `None` if the source is outside the tree, or if the entry
/// does not select the source. Returns an error if a target cannot have a repository of this name.
pub(crate) fn pair_in_tree(entry: &Entry, source: Endpoint) -> Option<Result<Pair, OpenError>> {
    let rest = path_in_tree(&entry.source, &source).filter(|rest| entry.repositories.takes(rest))?;
    let targets: Result<_, _> = entry.targets.iter().map(|target| join_tree(target, &rest, Side::Target)).collect();
    Some(targets.map(|targets| Pair { source, targets }))
}

/// Returns the source from which `entry` writes to `target`; `None` if the entry does not write to `target`.
pub(crate) fn source_for_target(entry: &Entry, target: &Endpoint) -> Option<Endpoint> {
    entry.targets.iter().find_map(|claimed| {
        if claimed.is_tree() && entry.source.is_tree() {
            let rest = path_in_tree(claimed, target).filter(|rest| entry.repositories.takes(rest))?;
            return join_tree(&entry.source, &rest, Side::Source).ok();
        }
        claimed.is_same_place(target).then(|| entry.source.clone())
    })
}

/// Returns the path of an endpoint below a tree: `a/b` for `team/a/b` in the tree `team/**`. Returns `None` if the
/// endpoint is not in the tree.
fn path_in_tree(tree: &Endpoint, endpoint: &Endpoint) -> Option<String> {
    match (tree.normalized(), endpoint.normalized()) {
        (Endpoint::Tree { host, prefix }, Endpoint::Repository(repository)) if host == repository.host => {
            let name = repository.name.as_str();
            let rest = match prefix {
                Some(prefix) => name.strip_prefix(prefix.as_str())?.strip_prefix('/')?,
                None => name,
            };
            Some(rest.to_owned())
        }
        (Endpoint::LayoutTree(root), Endpoint::Layout(path)) => {
            let rest = path.strip_prefix(root).ok()?.to_str()?;
            (!rest.is_empty()).then(|| rest.to_owned())
        }
        _ => None,
    }
}

/// Returns the endpoint at the path `rest` below a tree: `team/a/b` for `a/b` in the tree `team/**`.
fn join_tree(tree: &Endpoint, rest: &str, side: Side) -> Result<Endpoint, OpenError> {
    let place = tree.to_string();
    let invalid = |error: NameError| OpenError::Name { place: place.clone(), error };
    match tree {
        Endpoint::Tree { host, prefix } => {
            let name = match prefix {
                Some(prefix) => format!("{prefix}/{rest}").parse().map_err(invalid)?,
                None => rest.parse().map_err(invalid)?,
            };
            Ok(Endpoint::Repository(Repository { host: host.clone(), name }))
        }
        Endpoint::LayoutTree(root) => {
            let name: RepositoryName = rest.parse().map_err(invalid)?;
            let path = layout_path(root, &name).map_err(|error| OpenError::Layouts { side, place, error })?;
            Ok(Endpoint::Layout(path))
        }
        Endpoint::Repository(_) | Endpoint::Layout(_) | Endpoint::Archive(_) => Err(OpenError::Single(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn joined(tree: &str, rest: &str) -> Result<Endpoint, String> {
        join_tree(&endpoint(tree), rest, Side::Target).map_err(|error| error.with_side())
    }

    #[test]
    fn path_below_the_stars_maps_to_the_target() {
        let rest = path_in_tree(&endpoint("h.example/team/**"), &endpoint("h.example/team/a/b")).unwrap();
        assert_eq!(joined("prod.example/mirror/**", &rest), Ok(endpoint("prod.example/mirror/a/b")));
        assert_eq!(joined("prod.example/**", &rest), Ok(endpoint("prod.example/a/b")));
        assert_eq!(joined("oci-layout:/srv/**", &rest), Ok(endpoint("oci-layout:/srv/a/b")));
        for other in ["h.example/teams/a", "h.example/team", "other.example/team/a"] {
            assert_eq!(path_in_tree(&endpoint("h.example/team/**"), &endpoint(other)), None, "{other}");
        }
        let below = |path: &str| path_in_tree(&endpoint("oci-layout:./srv/**"), &endpoint(path));
        assert_eq!(below("oci-layout:srv/a/b"), Some("a/b".to_owned()));
        assert_eq!(below("oci-layout:srv"), None);
    }

    fn entry(source: &str, target: &str, keys: &str) -> Entry {
        let text = format!("version: 1\nsync: [{{name: a, source: {source:?}, target: {target:?}, {keys}}}]\n");
        crate::config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap().entries.remove(0)
    }

    #[test]
    fn selection_of_repositories_applies_to_trees_of_layouts() {
        let keys = "repositories: {include: [\"apps/*\"], exclude: [\"*/blobs\"]}";
        let out = entry("s.example/team/**", "oci-layout:/srv/**", keys);
        let target = |source: &str| {
            pair_in_tree(&out, endpoint(source)).map(|pair| pair.map(|pair| pair.targets[0].clone()).unwrap())
        };
        assert_eq!(target("s.example/team/apps/a"), Some(endpoint("oci-layout:/srv/apps/a")));
        assert_eq!(target("s.example/team/base"), None);
        assert_eq!(target("s.example/team/apps/blobs"), None, "the name cannot be a layout, and is excluded");
        let source = |path: &str| source_for_target(&out, &endpoint(path));
        assert_eq!(source("oci-layout:/srv/apps/a"), Some(endpoint("s.example/team/apps/a")));
        assert_eq!(source("oci-layout:/srv/base"), None);
    }

    #[tokio::test]
    async fn layouts_that_are_not_selected_are_observed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["apps/a", "base"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("oci-layout"), "{\"imageLayoutVersion\": \"1.0.0\"}").unwrap();
            std::fs::write(folder.path().join(name).join("index.json"), "{\"manifests\": []}").unwrap();
        }
        let source = format!("oci-layout:{}/**", folder.path().display());
        let entry = entry(&source, "t.example/**", "repositories: {include: [\"apps/*\"]}");
        let observed = parking_lot::Mutex::new(Vec::new());
        let observe: NameObserver<'_> = Box::new(|name| observed.lock().push(name.to_owned()));
        let listed = list_layouts(&entry, folder.path().to_owned(), observe).await;
        let targets: Vec<Endpoint> = listed.map(|pair| pair.unwrap().targets.remove(0)).collect().await;
        assert_eq!(targets, [endpoint("t.example/apps/a")]);
        observed.lock().sort_unstable();
        assert_eq!(*observed.lock(), ["apps/a", "base"]);
    }

    #[test]
    fn repository_that_a_target_cannot_have_is_an_error() {
        let message = joined("oci-layout:/srv/**", "team/blobs").unwrap_err();
        assert!(message.starts_with("target oci-layout:/srv/**: the repository team/blobs cannot have"), "{message}");
        let message = joined("prod.example/mirror/**", &"a".repeat(255)).unwrap_err();
        assert!(message.starts_with("target prod.example/mirror/**: "), "{message}");
    }
}
