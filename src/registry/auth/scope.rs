//! Scopes of a token (distribution's token scopes): actions on repositories, or on the catalog.

use std::collections::BTreeSet;

use crate::oci::RepositoryName;

/// Grants that one request needs, each as the token service reads it: `repository:a/b:pull`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scopes {
    grants: BTreeSet<String>,
    /// Key of a larger set. A cached token for that set serves as well.
    wider: Option<String>,
    /// A smaller, sufficient set. This set is used if the token service grants no token for the whole set.
    narrower: Option<Box<Scopes>>,
}

impl Scopes {
    /// Returns the scopes that read from a repository.
    pub(crate) fn pull(name: &RepositoryName) -> Self {
        let wider = Some(format!("repository:{name}:pull,push"));
        Self { grants: BTreeSet::from([format!("repository:{name}:pull")]), wider, narrower: None }
    }

    /// Returns the scopes that read from a repository that is written to.
    ///
    /// * Some registries (Quay, Harbor) refuse a pull token for a repository that does not exist yet. With a push token
    ///   such a repository is shown as empty.
    /// * One token then serves the whole copy.
    pub(crate) fn pull_to_push(name: &RepositoryName) -> Self {
        Self { narrower: Some(Box::new(Self::pull(name))), ..Self::push(name) }
    }

    /// Returns the scopes that list the tags of an Azure repository with their metadata.
    pub(crate) fn metadata(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:metadata_read")]), wider: None, narrower: None }
    }

    /// Returns the scopes that write to a repository.
    pub(crate) fn push(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:pull,push")]), wider: None, narrower: None }
    }

    /// Returns the scopes that mount a blob of `from` into a repository with one token.
    pub(crate) fn mount(name: &RepositoryName, from: &RepositoryName) -> Self {
        let mut scopes = Self::push(name);
        if from == name {
            return scopes;
        }
        scopes.grants.insert(format!("repository:{from}:pull"));
        scopes
    }

    /// Returns the scopes that delete from a repository.
    pub(crate) fn delete(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:pull,push,delete")]), wider: None, narrower: None }
    }

    /// Returns the empty set, which only authenticates.
    pub(crate) fn none() -> Self {
        Self { grants: BTreeSet::new(), wider: None, narrower: None }
    }

    /// Returns the scopes that list the repositories of a registry.
    pub(crate) fn catalog() -> Self {
        Self { grants: BTreeSet::from(["registry:catalog:*".to_owned()]), wider: None, narrower: None }
    }

    /// Returns one text for the whole set.
    pub(crate) fn key(&self) -> String {
        self.grants.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Returns the key of a larger, equally usable set.
    pub(crate) fn wider(&self) -> Option<&str> {
        self.wider.as_deref()
    }

    /// Returns a smaller, sufficient set.
    pub(crate) fn narrower(&self) -> Option<&Self> {
        self.narrower.as_deref()
    }

    /// Returns true if this set already includes a grant that a registry asks for.
    pub(crate) fn covers(&self, wanted: &str) -> bool {
        let Some((resource, wanted)) = wanted.rsplit_once(':') else { return false };
        self.grants.iter().filter_map(|grant| grant.rsplit_once(':')).any(|(known, actions)| {
            let granted = |action: &str| actions.split(',').any(|granted| granted == action);
            known == resource && wanted.split(',').all(granted)
        })
    }

    /// Returns the grants one by one.
    pub(crate) fn grants(&self) -> &BTreeSet<String> {
        &self.grants
    }
}
