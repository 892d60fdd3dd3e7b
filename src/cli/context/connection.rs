//! Connection to layouts on disk and to repositories, for the commands without a `sync.yaml`. If a configuration
//! exists, its options of the registries apply.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::configuration;
use super::location::ContentLocation;
use crate::cli::context::invocation::Context;
use crate::cli::exit::Failure;
use crate::config::{Config, default_journal};
use crate::oci::RegistryHost;
use crate::store::Source;
use crate::sync::{AccessContext, Endpoints};

/// Connection options of the commands that need no `sync.yaml`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// Use plain HTTP for this registry, as `plain_http` does in the configuration; may be repeated
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<RegistryHost>,
}

impl Connection {
    /// Returns endpoints with the options of the configuration, if there is one, and of these arguments.
    pub(crate) fn endpoints(&self, context: &Context) -> Result<Arc<Endpoints>, Failure> {
        Ok(self.endpoints_and_journal(context)?.0)
    }

    /// Returns the endpoints of [`Self::endpoints`] and the path of the journal: the path in the configuration if there
    /// is one, else the default path. The path is `None` if the environment determines no default path.
    pub(crate) fn endpoints_and_journal(
        &self,
        context: &Context,
    ) -> Result<(Arc<Endpoints>, Option<PathBuf>), Failure> {
        let (configured, unlisted) = (load_configuration(context)?, configuration::unlisted_options());
        let (mut options, journal) = match configured {
            Some(config) => (config.registries, Some(config.daemon.journal)),
            None => (BTreeMap::new(), default_journal(&configuration::environment)),
        };
        for host in &self.plain_http {
            options.entry(host.clone()).or_insert_with(|| unlisted.clone()).plain_http = true;
        }
        Ok((Arc::new(Endpoints::new(options, unlisted)), journal))
    }

    /// Opens a repository or a layout for reading.
    pub(crate) fn source(&self, location: &ContentLocation, context: &Context) -> Result<Arc<dyn Source>, Failure> {
        Ok(self.endpoints(context)?.source(&location.repository, AccessContext::default())?)
    }
}

/// Returns the configuration that the arguments name, or the one at a default path. If the user has no permission to
/// read the file at a default path, it counts as absent: the file may belong to the daemon and contain secrets.
fn load_configuration(context: &Context) -> Result<Option<Config>, Failure> {
    let Some(path) = configuration::find_if_any(&context.global) else { return Ok(None) };
    let is_denied = crate::regular_file::open(&path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if is_denied && context.global.config.is_none() {
        tracing::warn!(
            path = %path.display(),
            "no permission to read the configuration: registries are accessed without it"
        );
        return Ok(None);
    }
    configuration::announce(&context.global, &path);
    Ok(Some(configuration::read(&path).map_err(Failure::usage)?))
}
