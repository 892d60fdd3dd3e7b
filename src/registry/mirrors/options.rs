//! A mirror as it is written in the configuration. Only its name: asking it is for the rest of this folder.

use std::fmt;
use std::str::FromStr;

use crate::oci::{NameError, RegistryHost, RepositoryName};

/// Where a registry's content can be read as well: `mirror.internal:5000`, or `harbor.internal/hub-proxy`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mirror {
    /// The registry that the mirror is at.
    pub host: RegistryHost,
    /// What stands before the names of its repositories.
    pub prefix: Option<RepositoryName>,
}

/// Why a text is not a [`Mirror`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// A user name or a password stands before the host. The text is not repeated: it may be a secret.
    #[error("a user name or password does not belong here: write it under `credentials` of the mirror's own host")]
    UserInfo,
    /// A scheme stands before the host.
    #[error("{text:?} has a scheme: write {without:?}, and for plain HTTP `plain_http` under the mirror's own host")]
    Scheme {
        /// The whole text.
        text: String,
        /// The text without its scheme.
        without: String,
    },
    /// Not a registry's or a repository's name.
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
    /// What a repository of the registry is called here; `None` where that makes no name (it is too long).
    #[must_use]
    pub fn name_of(&self, name: &RepositoryName) -> Option<RepositoryName> {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{name}").parse().ok(),
            None => Some(name.clone()),
        }
    }
}
