//! Pushed tags, and the search for the pushes to an entry's source.

use std::collections::BTreeMap;

use crate::config::Endpoint;
use crate::oci::{RegistryHost, RepositoryName, Tag};
use crate::plan::RepositorySelection;

/// Pushed tag, as the sender of a push event reports the tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Push {
    /// Registry, under the name that entries of the configuration use.
    pub registry: RegistryHost,
    /// Repository.
    pub repository: RepositoryName,
    /// Tag.
    pub tag: Tag,
}

impl Push {
    /// Returns true if `repositories` selects the pushed repository. If `source` is a tree with a prefix, such as
    /// `team/**`, the selection applies to the name without the prefix.
    fn is_selected(&self, source: &Endpoint, repositories: &RepositorySelection) -> bool {
        let name = self.repository.as_str();
        let below = match source {
            Endpoint::Tree { prefix: Some(prefix), .. } => name.get(prefix.as_str().len() + 1..).unwrap_or_default(),
            _ => name,
        };
        repositories.takes(below)
    }

    /// Returns true if `source` is the pushed repository, or a tree that contains the pushed repository, such as
    /// `team/**`.
    #[must_use]
    pub fn concerns(&self, source: &Endpoint) -> bool {
        if source.host() != Some(&self.registry) {
            return false;
        }
        let name = self.repository.as_str();
        match source {
            Endpoint::Repository(repository) => repository.name == self.repository,
            Endpoint::Tree { prefix: Some(prefix), .. } => {
                name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
            Endpoint::Tree { prefix: None, .. } => true,
            Endpoint::Layout(_) | Endpoint::LayoutTree(_) | Endpoint::Archive(_) => false,
        }
    }
}

/// Pushes, grouped by repository. So each source is compared with each repository only once.
pub(super) struct Pushed<'a>(BTreeMap<(&'a RegistryHost, &'a RepositoryName), Vec<&'a Push>>);

impl<'a> Pushed<'a> {
    pub(super) fn new(pushes: &'a [Push]) -> Self {
        let mut repositories: BTreeMap<_, Vec<&Push>> = BTreeMap::new();
        for push in pushes {
            repositories.entry((&push.registry, &push.repository)).or_default().push(push);
        }
        Self(repositories)
    }

    /// Returns the pushes to repositories that an entry with this source and this selection reads.
    pub(super) fn matching(&self, source: &Endpoint, repositories: &RepositorySelection) -> Vec<&'a Push> {
        if let (Some(host), Endpoint::Repository(repository)) = (source.host(), source) {
            return self.0.get(&(host, &repository.name)).cloned().unwrap_or_default();
        }
        let matching = self.0.values().filter(|pushes| {
            pushes.first().is_some_and(|push| push.concerns(source) && push.is_selected(source, repositories))
        });
        matching.flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_concerns_its_repository_and_trees_above_it() {
        let push = Push {
            registry: "docker.io".parse().unwrap(),
            repository: "team/app".parse().unwrap(),
            tag: "v1".parse().unwrap(),
        };
        let other = Push { tag: "v2".parse().unwrap(), ..push.clone() };
        let both = [push.clone(), other.clone()];
        let concerned = |source: &str| push.concerns(&source.parse().unwrap());
        let every = RepositorySelection::default();
        for source in ["docker.io/team/app", "index.docker.io/team/app", "docker.io/team/**", "docker.io/**"] {
            assert!(concerned(source), "{source}");
            assert_eq!(Pushed::new(&both).matching(&source.parse().unwrap(), &every), [&push, &other], "{source}");
        }
        for source in
            ["docker.io/team/apps", "ghcr.io/team/app", "docker.io/tea/**", "ghcr.io/**", "oci-layout:team/app"]
        {
            assert!(!concerned(source), "{source}");
            assert_eq!(Pushed::new(&both).matching(&source.parse().unwrap(), &every), [&push; 0], "{source}");
        }
    }
}
