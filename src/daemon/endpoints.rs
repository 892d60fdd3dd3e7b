//! Opens endpoints: one client a registry and one handle a layout, shared by all entries.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::quotas::Quotas;
use crate::config::Endpoint;
use crate::layout::Layout;
use crate::oci::{RegistryHost, Repository};
use crate::registry::{Options, Registry};
use crate::store::{Source, StoreError, Target};

/// All registries and layouts that have been asked for, by one configuration.
#[derive(Debug, Default)]
pub struct Endpoints {
    options: BTreeMap<RegistryHost, Options>,
    /// For registries that are not among these.
    unlisted: Options,
    registries: Mutex<HashMap<RegistryHost, Arc<Registry>>>,
    layouts: Mutex<HashMap<PathBuf, Arc<Layout>>>,
    quotas: Arc<Quotas>,
}

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The client for a registry cannot be made.
    #[error("{host}: {reason}")]
    Client {
        /// The registry.
        host: RegistryHost,
        /// Why not.
        reason: String,
    },
    /// A tree of repositories where one repository is needed.
    #[error("{0} is not one repository")]
    Tree(String),
    /// The registry failed to answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn warn((host, options): (&RegistryHost, &Options)) {
    if let Some(warning) = options.transport.tls.warning() {
        tracing::warn!(registry = %host, "{warning}");
    }
}

impl Endpoints {
    /// Endpoints by these options, and `unlisted` for a registry that is not among them.
    #[must_use]
    pub fn new(options: BTreeMap<RegistryHost, Options>, unlisted: Options) -> Self {
        options.iter().for_each(warn);
        Self { options, unlisted, ..Self::default() }
    }

    /// Endpoints by other options. Registries whose options did not change, and layouts, go on as they are.
    #[must_use]
    pub fn reconfigured(&self, options: BTreeMap<RegistryHost, Options>, changed: &[RegistryHost]) -> Self {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        registries.retain(|host, _| !changed.contains(host));
        options.iter().filter(|(host, _)| changed.contains(host)).for_each(warn);
        let layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unlisted = self.unlisted.clone();
        let quotas = self.quotas.clone();
        Self { options, unlisted, registries: Mutex::new(registries), layouts: Mutex::new(layouts), quotas }
    }

    /// The client of a registry.
    ///
    /// # Errors
    /// [`OpenError::Client`] where it cannot be made.
    pub fn registry(&self, host: &RegistryHost) -> Result<Arc<Registry>, OpenError> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = registries.get(host) {
            return Ok(registry.clone());
        }
        let options = self.options.get(host).unwrap_or(&self.unlisted).clone();
        let registry = Registry::new(host.clone(), options)
            .map_err(|error| OpenError::Client { host: host.clone(), reason: error.to_string() })?;
        self.quotas.tell(&registry);
        registries.insert(host.clone(), registry.clone());
        Ok(registry)
    }

    /// Every client that has been made, for the metrics.
    #[must_use]
    pub fn registries(&self) -> Vec<Arc<Registry>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// An endpoint to read from.
    ///
    /// # Errors
    /// [`OpenError`] where it cannot be opened; nothing is asked of it yet.
    pub fn source(&self, endpoint: &Endpoint) -> Result<Arc<dyn Source>, OpenError> {
        match endpoint {
            Endpoint::Repository(repository) => Ok(Arc::new(self.repository(repository)?)),
            Endpoint::Layout(path) => Ok(self.layout(path)),
            Endpoint::Tree { .. } => Err(OpenError::Tree(endpoint.to_string())),
        }
    }

    /// An endpoint to write to.
    ///
    /// # Errors
    /// [`OpenError`] where it cannot be opened; nothing is asked of it yet.
    pub fn target(&self, endpoint: &Endpoint) -> Result<Arc<dyn Target>, OpenError> {
        match endpoint {
            Endpoint::Repository(repository) => Ok(Arc::new(self.repository(repository)?)),
            Endpoint::Layout(path) => Ok(self.layout(path)),
            Endpoint::Tree { .. } => Err(OpenError::Tree(endpoint.to_string())),
        }
    }

    pub(super) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    fn repository(&self, repository: &Repository) -> Result<crate::registry::Repository, OpenError> {
        Ok(self.registry(&repository.host)?.repository(repository.name.clone()))
    }

    fn layout(&self, path: &Path) -> Arc<Layout> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.entry(path.to_owned()).or_insert_with(|| Layout::open(path)).clone()
    }
}
