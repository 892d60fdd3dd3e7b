//! Command `transship repositories HOST[/PREFIX]`: prints the repositories that the catalog of a registry lists.

use std::fmt;
use std::str::FromStr;

use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::cli::context::connection::Connection;
use crate::cli::context::invocation::Context;
use crate::cli::context::registry_selection::is_host_name;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer::Output;
use crate::oci::{NameError, RegistryHost, Repository, RepositoryName};

/// Arguments of `transship repositories`.
#[derive(Debug, clap::Args)]
pub struct Repositories {
    /// Registry, optionally with a prefix: ghcr.io or ghcr.io/team
    #[arg(value_name = "HOST[/PREFIX]")]
    pub location: CatalogLocation,
    /// Maximum number of repositories; the first repositories in the order of the registry are shown [default: all]
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Connection options.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Registry and an optional prefix of repository names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogLocation {
    /// Registry.
    pub host: RegistryHost,
    /// Prefix of the listed repositories. `None` means all repositories of the registry.
    pub prefix: Option<RepositoryName>,
}

/// Error of parsing a [`CatalogLocation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogLocationError {
    /// The text does not begin with the name of a registry.
    #[error("{0:?} is not a registry: write HOST or HOST/PREFIX, such as ghcr.io/team")]
    NoHost(String),
    /// The host or the prefix is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// JSON object of one repository for `--json`.
#[derive(Debug, Serialize)]
struct RepositoryLine {
    repository: String,
}

impl FromStr for CatalogLocation {
    type Err = CatalogLocationError;

    fn from_str(text: &str) -> Result<Self, CatalogLocationError> {
        // In `sync.yaml`, `HOST/PREFIX/**` selects the repositories below a prefix. The command accepts the same
        // syntax.
        let text = text.strip_suffix("/**").unwrap_or(text).trim_end_matches('/');
        let (host, prefix) = text.split_once('/').map_or((text, None), |(host, prefix)| (host, Some(prefix)));
        if !is_host_name(host) {
            return Err(CatalogLocationError::NoHost(host.to_owned()));
        }
        Ok(Self { host: host.parse()?, prefix: prefix.map(str::parse).transpose()? })
    }
}

impl fmt::Display for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl CatalogLocation {
    /// Returns true if the repository is the prefix itself (`team`) or is below the prefix (`team/app`).
    fn contains(&self, name: &RepositoryName) -> bool {
        let Some(prefix) = &self.prefix else { return true };
        let rest = name.as_str().strip_prefix(prefix.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Repositories {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let endpoints = self.connection.endpoints(&[Some(&self.location.host)], context)?;
        let CatalogLocation { host, prefix } = &self.location;
        let registry = match prefix {
            Some(prefix) => endpoints.registry_below(host, prefix, None)?,
            None => endpoints.registry(host, None)?,
        };
        let names = self.collect(registry.catalog()).await?;
        self.print(&names, &mut context.output)
    }

    /// Reads the catalog up to the limit of matching repositories. Returns the sorted names of these repositories.
    async fn collect<E>(
        &self,
        catalog: impl futures_util::Stream<Item = Result<RepositoryName, E>>,
    ) -> Result<Vec<RepositoryName>, E> {
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut catalog = std::pin::pin!(catalog);
        let mut names = Vec::new();
        while names.len() < limit
            && let Some(name) = catalog.try_next().await?
        {
            if self.location.contains(&name) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn print(&self, names: &[RepositoryName], output: &mut Output) -> Result<Exit, Failure> {
        let host = &self.location.host;
        let lines = names.iter().map(|name| Repository { host: host.clone(), name: name.clone() }.to_string());
        if self.json {
            let lines: Vec<RepositoryLine> = lines.map(|repository| RepositoryLine { repository }).collect();
            output.json(&lines)?;
            return Ok(Exit::Ok);
        }
        if names.is_empty() {
            output.line(format!("the catalog lists no repositories for these credentials: {}", self.location))?;
        }
        for line in lines {
            output.line(line)?;
        }
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;

    fn command(location: &str, limit: Option<u32>, json: bool) -> Repositories {
        Repositories { location: location.parse().unwrap(), limit, connection: Connection::default(), json }
    }

    async fn printed(command: &Repositories) -> String {
        let names = ["team/b", "team", "teams/x", "team/a/c", "other"].map(str::parse);
        let names = command.collect(stream::iter(names)).await.unwrap();
        let buffer = OutputBuffer::default();
        command.print(&names, &mut buffer.output()).unwrap();
        buffer.text()
    }

    #[tokio::test]
    async fn repositories_below_the_prefix_are_listed_in_order() {
        let below = printed(&command("ghcr.io/team", None, false)).await;
        assert_eq!(below, "ghcr.io/team\nghcr.io/team/a/c\nghcr.io/team/b\n");
        assert_eq!(printed(&command("ghcr.io", Some(2), false)).await, "ghcr.io/team\nghcr.io/team/b\n");
        let json: serde_json::Value =
            serde_json::from_str(&printed(&command("ghcr.io/other/**", None, true)).await).unwrap();
        assert_eq!(json, serde_json::json!([{"repository": "ghcr.io/other"}]));
        let none = printed(&command("ghcr.io/nobody", None, false)).await;
        assert_eq!(none, "the catalog lists no repositories for these credentials: ghcr.io/nobody\n");
    }

    #[test]
    fn location_of_a_catalog_begins_with_a_host() {
        let location: CatalogLocation = "localhost:5000/team/".parse().unwrap();
        assert_eq!((location.host.as_str(), location.to_string().as_str()), ("localhost:5000", "localhost:5000/team"));
        let refused = "team/app".parse::<CatalogLocation>().unwrap_err().to_string();
        assert_eq!(refused, r#""team" is not a registry: write HOST or HOST/PREFIX, such as ghcr.io/team"#);
    }
}
