//! Client of one repository of a registry. The modules `api` and `upload` add the methods that send requests.

use std::fmt;
use std::sync::Arc;

use url::Url;

use super::registry::Registry;
use crate::oci::RepositoryName;
use crate::registry::Tenant;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::context::Context;
use crate::registry::http::retry::Operation;
use crate::store::{ErrorKind, Step, StoreError};

/// Client of one repository of one registry.
#[derive(Clone)]
pub struct Repository {
    pub(crate) registry: Arc<Registry>,
    pub(crate) name: RepositoryName,
    /// Tenant of the requests. All tenants share the registry's limits fairly.
    pub(crate) tenant: Tenant,
    /// Name of the repository in messages: host and repository.
    pub(crate) place: Arc<str>,
    /// Operation that selects the retry policy of manifest and blob reads.
    pub(crate) reads: Operation,
    /// True if this program writes to the repository.
    writes: bool,
}

impl Repository {
    pub(crate) fn new(registry: Arc<Registry>, name: RepositoryName) -> Self {
        let place = format!("{}/{name}", registry.host().in_reference()).into();
        Self { registry, name, tenant: Tenant::default(), place, reads: Operation::Read, writes: false }
    }

    /// Returns the same repository for requests of this tenant. Tenants share the registry's limits fairly.
    #[must_use]
    pub fn for_tenant(self, tenant: Tenant) -> Self {
        Self { tenant, ..self }
    }

    /// Returns the same repository as a target. Every token request for this repository then includes the right to
    /// push.
    #[must_use]
    pub fn for_writing(self) -> Self {
        Self { writes: true, ..self }
    }

    /// Returns the scopes of a token that reads from this repository.
    pub(crate) fn reading(&self) -> Scopes {
        if self.writes { Scopes::pull_to_push(&self.name) } else { Scopes::pull(&self.name) }
    }

    pub(crate) fn is_written(&self) -> bool {
        self.writes
    }

    /// Returns the same repository for use as a mirror. The client does not repeat a failed read, because the caller
    /// then tries the next mirror or the registry itself.
    pub(crate) fn into_mirror(self) -> Self {
        Self { reads: Operation::MirrorManifest, ..self }
    }

    pub(crate) fn context(&self, step: Step, subject: impl fmt::Display) -> Context {
        let (place, registry) = (Arc::clone(&self.place), &self.registry);
        let context = Context::new(place, step, subject.to_string(), registry.flavor(), &registry.sender().budgets);
        Context { tenant: self.tenant, ..context }
    }

    /// Returns the URL of a resource below this repository, such as `manifests/latest`.
    pub(crate) fn url(&self, context: &Context, below: &str) -> Result<Url, StoreError> {
        let path = format!("/v2/{}/{below}", self.name);
        self.registry.address(&path).map_err(|error| context.error(ErrorKind::Invalid, error))
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({})", self.place)
    }
}
