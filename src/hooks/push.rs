//! One tag that was pushed, and which sources that is about.

use std::collections::BTreeMap;

use crate::config::Endpoint;
use crate::oci::{RegistryHost, RepositoryName, Tag};

/// A tag that now stands for something at a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Push {
    /// The registry, by the name that entries have for it.
    pub registry: RegistryHost,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
}

impl Push {
    /// Whether this source has the repository: it is it, or a tree above it.
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
            Endpoint::Layout(_) => false,
        }
    }
}

/// Pushes by their repositories, so that a source is compared with each of these once, however many tags there are.
pub(super) struct Pushed<'a>(BTreeMap<(&'a RegistryHost, &'a RepositoryName), Vec<&'a Push>>);

impl<'a> Pushed<'a> {
    pub(super) fn of(pushes: &'a [Push]) -> Self {
        let mut repositories: BTreeMap<_, Vec<&Push>> = BTreeMap::new();
        for push in pushes {
            repositories.entry((&push.registry, &push.repository)).or_default().push(push);
        }
        Self(repositories)
    }

    /// What this source has of them.
    pub(super) fn at(&self, source: &Endpoint) -> Vec<&'a Push> {
        if let (Some(host), Endpoint::Repository(repository)) = (source.host(), source) {
            return self.0.get(&(host, &repository.name)).cloned().unwrap_or_default();
        }
        let concerned = self.0.values().filter(|pushes| pushes.first().is_some_and(|push| push.concerns(source)));
        concerned.flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_concerns_its_repository_and_the_trees_above_it() {
        let push = Push {
            registry: "docker.io".parse().unwrap(),
            repository: "team/app".parse().unwrap(),
            tag: "v1".parse().unwrap(),
        };
        let other = Push { tag: "v2".parse().unwrap(), ..push.clone() };
        let both = [push.clone(), other.clone()];
        let concerned = |source: &str| push.concerns(&source.parse().unwrap());
        for source in ["docker.io/team/app", "index.docker.io/team/app", "docker.io/team/**", "docker.io/**"] {
            assert!(concerned(source), "{source}");
            assert_eq!(Pushed::of(&both).at(&source.parse().unwrap()), [&push, &other], "{source}");
        }
        for source in
            ["docker.io/team/apps", "ghcr.io/team/app", "docker.io/tea/**", "ghcr.io/**", "oci-layout:team/app"]
        {
            assert!(!concerned(source), "{source}");
            assert_eq!(Pushed::of(&both).at(&source.parse().unwrap()), [&push; 0], "{source}");
        }
    }
}
