//! Opens what the commands without a `sync.yaml` work on: layouts on disk, and repositories with the options that a
//! configuration has for their registry, if there is one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::configuration;
use super::exit::Failure;
use super::place::Place;
use super::start::Context;
use crate::config::{Config, default_journal};
use crate::daemon::{Behalf, Endpoints};
use crate::oci::RegistryHost;
use crate::store::Source;

/// How registries are reached by the commands that need no `sync.yaml`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// Speak HTTP to this registry, as `plain_http` does in the configuration; may be repeated
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<RegistryHost>,
}

impl Connection {
    /// Endpoints by the options of the configuration, where there is one, and these arguments.
    pub(super) fn endpoints(&self, context: &Context) -> Result<Arc<Endpoints>, Failure> {
        Ok(self.endpoints_and_journal(context)?.0)
    }

    /// The same, and the place of the journal: by the configuration, where there is one, else the default. `None` where the environment has
    /// no place for it.
    pub(super) fn endpoints_and_journal(
        &self,
        context: &Context,
    ) -> Result<(Arc<Endpoints>, Option<PathBuf>), Failure> {
        let (configured, unlisted) = (configured(context)?, configuration::unlisted());
        let (mut options, journal) = match configured {
            Some(config) => (config.registries, Some(config.daemon.journal)),
            None => (BTreeMap::new(), default_journal(&configuration::environment)),
        };
        for host in &self.plain_http {
            options.entry(host.clone()).or_insert_with(|| unlisted.clone()).plain_http = true;
        }
        Ok((Arc::new(Endpoints::new(options, unlisted)), journal))
    }

    /// Opens a place for reading.
    pub(super) fn source(&self, place: &Place, context: &Context) -> Result<Arc<dyn Source>, Failure> {
        Ok(self.endpoints(context)?.source(&place.home.endpoint(), Behalf::default())?)
    }
}

/// The configuration that is named or found. One that was not named and may not be read is as good as
/// none: it can be the daemon's, with secrets that are not for whoever looks at tags.
fn configured(context: &Context) -> Result<Option<Config>, Failure> {
    let Some(path) = configuration::find_if_any(&context.global) else { return Ok(None) };
    let may_not = crate::regular_file::open(&path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if may_not && context.global.config.is_none() {
        tracing::warn!(path = %path.display(), "may not be read: registries are asked as if nothing were configured");
        return Ok(None);
    }
    Ok(Some(configuration::read(&path).map_err(Failure::usage)?))
}
