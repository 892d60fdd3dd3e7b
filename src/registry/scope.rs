//! What a token is to grant (distribution's token scopes): actions on repositories, or on the catalog.

use std::collections::BTreeSet;

use crate::oci::RepositoryName;

/// The grants that one request needs, each as the token service reads it: `repository:a/b:pull`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scopes {
    grants: BTreeSet<String>,
    /// A larger set that does as well, if a token for it is at hand.
    wider: Option<String>,
    /// A smaller set that is enough, where no token is given for the whole.
    narrower: Option<Box<Scopes>>,
}

impl Scopes {
    /// To read from a repository.
    pub(crate) fn pull(name: &RepositoryName) -> Self {
        let wider = Some(format!("repository:{name}:pull,push"));
        Self { grants: BTreeSet::from([format!("repository:{name}:pull")]), wider, narrower: None }
    }

    /// To read from a repository that is written to. Some registries refuse a token to pull alone from a repository that is
    /// not there yet, while one to push shows it as empty (Quay, Harbor); and one token then does for the whole copy.
    pub(crate) fn pull_to_push(name: &RepositoryName) -> Self {
        Self { narrower: Some(Box::new(Self::pull(name))), ..Self::push(name) }
    }

    /// To list the tags of a repository of Azure's with what is known of them.
    pub(crate) fn metadata(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:metadata_read")]), wider: None, narrower: None }
    }

    /// To write to a repository.
    pub(crate) fn push(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:pull,push")]), wider: None, narrower: None }
    }

    /// To mount a blob of `from` into a repository, in one token.
    pub(crate) fn mount(name: &RepositoryName, from: &RepositoryName) -> Self {
        let mut scopes = Self::push(name);
        if from == name {
            return scopes;
        }
        scopes.grants.insert(format!("repository:{from}:pull"));
        scopes
    }

    /// To delete from a repository.
    pub(crate) fn delete(name: &RepositoryName) -> Self {
        Self { grants: BTreeSet::from([format!("repository:{name}:pull,push,delete")]), wider: None, narrower: None }
    }

    /// To be let in, for nothing in particular.
    pub(crate) fn none() -> Self {
        Self { grants: BTreeSet::new(), wider: None, narrower: None }
    }

    /// To list the repositories of a registry.
    pub(crate) fn catalog() -> Self {
        Self { grants: BTreeSet::from(["registry:catalog:*".to_owned()]), wider: None, narrower: None }
    }

    /// One text for the whole set.
    pub(crate) fn key(&self) -> String {
        self.grants.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The key of a larger set that does as well.
    pub(crate) fn wider(&self) -> Option<&str> {
        self.wider.as_deref()
    }

    /// A smaller set that is enough.
    pub(crate) fn narrower(&self) -> Option<&Self> {
        self.narrower.as_deref()
    }

    /// Whether a grant that a registry asks for is among these already.
    pub(crate) fn covers(&self, wanted: &str) -> bool {
        let Some((resource, wanted)) = wanted.rsplit_once(':') else { return false };
        self.grants.iter().filter_map(|grant| grant.rsplit_once(':')).any(|(known, actions)| {
            let granted = |action: &str| actions.split(',').any(|granted| granted == action);
            known == resource && wanted.split(',').all(granted)
        })
    }

    /// The grants, each its own.
    pub(crate) fn grants(&self) -> &BTreeSet<String> {
        &self.grants
    }
}
