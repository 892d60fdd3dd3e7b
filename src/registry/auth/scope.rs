//! Scopes of a token (distribution's token scopes): actions on repositories, or on the catalog.

use std::collections::BTreeSet;

use crate::oci::RepositoryName;

/// Grants that one request needs. Each grant has the format of the token service, such as `repository:a/b:pull`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scopes {
    grants: BTreeSet<String>,
    /// Key of a larger set of grants. If the client has a token for the larger set, the client uses this token.
    wider: Option<String>,
    /// Smaller set of grants that is also sufficient. The client uses the smaller set if the token service issues no
    /// token for the whole set.
    narrower: Option<Box<Scopes>>,
}

impl Scopes {
    /// Returns the scopes for reads from a repository.
    pub(crate) fn pull(name: &RepositoryName) -> Self {
        let wider = Some(format!("repository:{name}:pull,push"));
        Self { grants: BTreeSet::from([format!("repository:{name}:pull")]), wider, narrower: None }
    }

    /// Returns the scopes for reads from a repository to which the client also writes. The scopes include the right to
    /// push, for two reasons:
    ///
    /// * Some registries (Quay, Harbor) refuse a pull token for a repository that does not exist yet. With a push
    ///   token, these registries answer that the repository is empty.
    /// * The client needs only one token for the whole copy.
    pub(crate) fn pull_to_push(name: &RepositoryName) -> Self {
        Self { narrower: Some(Box::new(Self::pull(name))), ..Self::push(name) }
    }

    /// Returns the scopes for Azure's tag listing of a repository.
    pub(crate) fn metadata(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:metadata_read")]), wider: None, narrower: None }
    }

    /// Returns the scopes for writes to a repository.
    pub(crate) fn push(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:pull,push")]), wider: None, narrower: None }
    }

    /// Returns the scopes for a mount of a blob from the repository `from` into the repository `name`.
    pub(crate) fn mount(name: &RepositoryName, from: &RepositoryName) -> Self {
        let mut scopes = Self::push(name);
        if from == name {
            return scopes;
        }
        scopes.grants.insert(format!("repository:{from}:pull"));
        scopes
    }

    /// Returns the scopes for deletions from a repository.
    pub(crate) fn delete(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:pull,push,delete")]), wider: None, narrower: None }
    }

    /// Returns the empty set. A token for the empty set only proves the identity.
    pub(crate) fn none() -> Self {
        Self { grants: BTreeSet::new(), wider: None, narrower: None }
    }

    /// Returns the scopes for a listing of the repositories of a registry.
    pub(crate) fn catalog() -> Self {
        Self { grants: BTreeSet::from(["registry:catalog:*".to_owned()]), wider: None, narrower: None }
    }

    /// Returns a text that identifies the set.
    pub(crate) fn key(&self) -> String {
        self.grants.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Returns the key of the larger set of grants, if there is a larger set.
    pub(crate) fn wider(&self) -> Option<&str> {
        self.wider.as_deref()
    }

    /// Returns the smaller set of grants that is also sufficient, if there is a smaller set.
    pub(crate) fn narrower(&self) -> Option<&Self> {
        self.narrower.as_deref()
    }

    /// Returns true if this set already includes the grant `wanted`.
    pub(crate) fn covers(&self, wanted: &str) -> bool {
        let Some((resource, wanted)) = wanted.rsplit_once(':') else { return false };
        self.grants.iter().filter_map(|grant| grant.rsplit_once(':')).any(|(known, actions)| {
            let granted = |action: &str| actions.split(',').any(|granted| granted == action);
            known == resource && wanted.split(',').all(granted)
        })
    }

    pub(crate) fn grants(&self) -> &BTreeSet<String> {
        &self.grants
    }
}
