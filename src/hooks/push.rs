//! One tag that was pushed, and which sources that is about.

use crate::config::Endpoint;
use crate::oci::{RegistryHost, RepositoryName, Tag};

/// A tag that now stands for something at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let concerned = |source: &str| push.concerns(&source.parse().unwrap());
        for source in ["docker.io/team/app", "index.docker.io/team/app", "docker.io/team/**", "docker.io/**"] {
            assert!(concerned(source), "{source}");
        }
        for source in
            ["docker.io/team/apps", "ghcr.io/team/app", "docker.io/tea/**", "ghcr.io/**", "oci-layout:team/app"]
        {
            assert!(!concerned(source), "{source}");
        }
    }
}
