//! Name of a mirror in the configuration.

use std::fmt;
use std::str::FromStr;

use crate::oci::{NameError, RegistryHost, RepositoryName};

/// Alternative location of a registry's content: `mirror.internal:5000`, or `harbor.internal/hub-proxy`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mirror {
    /// Registry of the mirror.
    pub host: RegistryHost,
    /// Prefix of the names of the mirror's repositories.
    pub prefix: Option<RepositoryName>,
}

/// Reason why a text is not a [`Mirror`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// A user name or a password precedes the host. The message does not repeat the text, because the text can contain
    /// a secret.
    #[error("a user name or password does not belong here: write it under `credentials` of the mirror's own host")]
    UserInfo,
    /// A scheme precedes the host.
    #[error(
        "{text:?} has a scheme: write {without:?}, and for plain HTTP set `plain_http` under the mirror's own host"
    )]
    Scheme {
        /// The whole text.
        text: String,
        /// The text without its scheme.
        without: String,
    },
    /// The text is not a name of a registry or a repository.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        if text.contains('@') {
            return Err(MirrorError::UserInfo);
        }
        if let Some((_, without)) = text.split_once("://") {
            return Err(MirrorError::Scheme { text: text.to_owned(), without: without.to_owned() });
        }
        let (host, prefix) = text.split_once('/').map_or((text, None), |(host, prefix)| (host, Some(prefix)));
        Ok(Self { host: host.parse()?, prefix: prefix.map(str::parse).transpose()? })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl Mirror {
    /// Returns the name that the registry's repository `name` has at the mirror. `None` if the name at the mirror is
    /// too long.
    #[must_use]
    pub fn name_of(&self, name: &RepositoryName) -> Option<RepositoryName> {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{name}").parse().ok(),
            None => Some(name.clone()),
        }
    }
}
