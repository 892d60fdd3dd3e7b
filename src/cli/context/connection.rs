//! Connections to registries and image layouts, for the commands that need no `sync.yaml`. If a `sync.yaml` exists, its
//! options for registries apply.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use super::configuration;
use super::location::ContentLocation;
use crate::cli::context::invocation::Context;
use crate::cli::exit::Failure;
use crate::config::{Config, default_journal};
use crate::oci::{NameError, RegistryHost};
use crate::store::Source;
use crate::sync::{AccessContext, Endpoints};

/// Flag of [`Connection::plain_http`].
const FLAG: &str = "--plain-http";

/// Connection options of the commands that need no `sync.yaml`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// Use plain HTTP for this registry, as `plain_http` does in the configuration; may be repeated; without HOST, for
    /// each registry that the command names, except Docker Hub
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    pub plain_http: Vec<PlainHttp>,
    /// Registries with options in the configuration. Set when the endpoints are created.
    #[arg(skip)]
    configured: OnceLock<BTreeSet<RegistryHost>>,
}

/// Value of `--plain-http`: the registries to which the command connects by plain HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainHttp {
    /// No HOST: every registry in the arguments of the command except Docker Hub, which accepts only TLS.
    Named,
    /// The registry HOST.
    Host(RegistryHost),
}

impl FromStr for PlainHttp {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() { Ok(Self::Named) } else { text.parse().map(Self::Host) }
    }
}

/// Replaces `--plain-http` by `--plain-http=` if the next argument could be its HOST. The next argument is then a
/// separate argument of the command. Returns `None` if the function replaced nothing.
pub(crate) fn separate_plain_http(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let is_followed = |pair: &[OsString]| {
        pair.first().is_some_and(|flag| flag == FLAG)
            && pair.get(1).is_some_and(|next| !next.as_encoded_bytes().starts_with(b"-"))
    };
    let separated = arguments.iter().enumerate().map(|(index, argument)| {
        if is_followed(&arguments[index..]) { OsString::from(format!("{FLAG}=")) } else { argument.clone() }
    });
    arguments.windows(2).any(is_followed).then(|| separated.collect())
}

impl Connection {
    /// Returns the endpoints. Their options come from the configuration, if one exists, and from `--plain-http`.
    /// `named` contains the registries in the arguments of the command.
    pub(crate) fn endpoints(
        &self,
        named: &[Option<&RegistryHost>],
        context: &Context,
    ) -> Result<Arc<Endpoints>, Failure> {
        Ok(self.endpoints_and_journal(named, context)?.0)
    }

    /// Returns the endpoints like [`Self::endpoints`], and the path of the journal. If a configuration exists, the path
    /// comes from the configuration. Otherwise, the path is the default path, or `None` if the environment determines
    /// no default path.
    pub(crate) fn endpoints_and_journal(
        &self,
        named: &[Option<&RegistryHost>],
        context: &Context,
    ) -> Result<(Arc<Endpoints>, Option<PathBuf>), Failure> {
        let (configured, unlisted) = (load_configuration(context)?, configuration::unlisted_options());
        let (mut options, journal) = match configured {
            Some(config) => (config.registries, Some(config.daemon.journal)),
            None => (BTreeMap::new(), default_journal(&configuration::environment)),
        };
        self.configured.get_or_init(|| options.keys().cloned().collect());
        for host in self.plain_hosts(named) {
            options.entry(host.clone()).or_insert_with(|| unlisted.clone()).plain_http = true;
        }
        Ok((Arc::new(Endpoints::new(options, unlisted)), journal))
    }

    /// Returns the registry, if messages about this registry name flags. Messages about a registry with options in the
    /// configuration name keys of the configuration: returns `None`.
    pub(crate) fn host_with_flags<'a>(&self, host: Option<&'a RegistryHost>) -> Option<&'a RegistryHost> {
        host.filter(|host| !self.configured.get().is_some_and(|configured| configured.contains(*host)))
    }

    /// Returns the registries to which `--plain-http` applies.
    fn plain_hosts<'a>(&'a self, named: &[Option<&'a RegistryHost>]) -> Vec<&'a RegistryHost> {
        let named = named.iter().flatten().copied().filter(|host| host.may_speak_plain_http());
        let hosts = self.plain_http.iter().flat_map(|plain| match plain {
            PlainHttp::Named => named.clone().collect(),
            PlainHttp::Host(host) => vec![host],
        });
        hosts.collect()
    }

    /// Opens a repository or a layout for reading.
    pub(crate) fn source(&self, location: &ContentLocation, context: &Context) -> Result<Arc<dyn Source>, Failure> {
        let endpoints = self.endpoints(&[location.repository.host()], context)?;
        Ok(endpoints.source(&location.repository, AccessContext::default())?)
    }
}

/// Reads the file of `--config`, or the file at a default path. If no file exists, returns `None`. If the user has no
/// permission to read the file at a default path, logs a warning and returns `None`, because the file may belong to the
/// daemon.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_without_host_means_the_named_registries() {
        let [hub, own, other]: [RegistryHost; 3] =
            ["docker.io", "h.example:5000", "x.example"].map(|host| host.parse().unwrap());
        let hosts = |values: &[&str]| {
            let plain_http = values.iter().map(|value| value.parse().unwrap()).collect();
            let connection = Connection { plain_http, ..Connection::default() };
            let hosts = connection.plain_hosts(&[Some(&hub), None, Some(&own)]);
            hosts.into_iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(hosts(&[""]), ["h.example:5000"]);
        assert_eq!(hosts(&[other.as_str()]), ["x.example"]);
        assert_eq!(hosts(&["", other.as_str()]), ["h.example:5000", "x.example"]);
        assert_eq!(hosts(&["docker.io"]), ["docker.io"]);
        assert_eq!(hosts(&[]), [""; 0]);
    }
}
