//! Endpoints as written in `source` and `target`: a repository, a tree of repositories or an image layout on disk. The
//! module contains only the names of endpoints; `registry` and `layout` read and write their content.

use std::fmt;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use crate::oci::{NameError, Reference, ReferenceError, RegistryHost, Repository, RepositoryName, names_host};

const LAYOUT: &str = "oci-layout:";

/// Source or target of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// One repository of a registry: `docker.io/library/python`.
    Repository(Repository),
    /// Every repository of a registry, `host/**`, or every repository under a prefix, `host/team/**`.
    Tree {
        /// Registry of the repositories.
        host: RegistryHost,
        /// Prefix before the `/**`; `None` means the whole registry.
        prefix: Option<RepositoryName>,
    },
    /// OCI image layout: `oci-layout:PATH`, relative to the working directory.
    Layout(PathBuf),
}

/// Error: a text is not a valid [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Missing path after `oci-layout:`.
    #[error("the path is missing after {LAYOUT:?}: write oci-layout:./mirror")]
    NoPath,
    /// URL in place of a layout's path. The message does not repeat the text, which may contain a password.
    #[error("a layout is a folder on this machine, not a URL: write oci-layout:/srv/mirror, or HOST/REPOSITORY")]
    LayoutUrl,
    /// Misplaced `*`: only `**` as the last part is allowed.
    #[error(
        "{0:?} has a `*` in the wrong place: only `**` as the last part is allowed, like host/team/** for all \
         repositories below host/team"
    )]
    Star(String),
    /// Tag or digest after the repository.
    #[error("{text:?} names one image: write {repository} here and {selected:?} under tags.include")]
    OneImage {
        /// Complete text.
        text: String,
        /// Repository without its tag or digest.
        repository: String,
        /// Tag or `@digest` alone.
        selected: String,
    },
    /// User name or password before the host. The message does not repeat the text, which may be a secret.
    #[error("a user name or password does not belong here: write it under registries.HOST.credentials")]
    UserInfo,
    /// Invalid reference to a repository.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Invalid name of a registry or of a repository.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Endpoint {
    /// Returns true if both endpoints name the same place. Paths are compared as written, except for a leading `./`.
    #[must_use]
    pub fn is_same_place(&self, other: &Endpoint) -> bool {
        self.normalized() == other.normalized()
    }

    /// Returns the same place without redundant parts in its path.
    pub(crate) fn normalized(&self) -> Endpoint {
        match self {
            Self::Layout(path) => Self::Layout(path.components().filter(|part| *part != Component::CurDir).collect()),
            other => other.clone(),
        }
    }

    /// Returns the registry, or `None` for a layout.
    #[must_use]
    pub fn host(&self) -> Option<&RegistryHost> {
        match self {
            Self::Repository(repository) => Some(&repository.host),
            Self::Tree { host, .. } => Some(host),
            Self::Layout(_) => None,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix(LAYOUT) {
            return match path {
                "" => Err(EndpointError::NoPath),
                url if url.contains("://") => Err(EndpointError::LayoutUrl),
                path => Ok(Self::Layout(path.into())),
            };
        }
        if has_user_info(text) {
            return Err(EndpointError::UserInfo);
        }
        if let Some(above) = text.strip_suffix("/**").filter(|above| !above.contains("://")) {
            return if above.contains('*') { Err(EndpointError::Star(text.to_owned())) } else { parse_tree(above) };
        }
        if text.contains('*') {
            return Err(EndpointError::Star(text.to_owned()));
        }
        parse_repository(text)
    }
}

/// Returns true if `text` is a URL with text before an `@` in its authority, or is `USER:PASSWORD@HOST` without a
/// scheme (and not `NAME:TAG@DIGEST`).
pub(crate) fn has_user_info(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split('/').next().unwrap_or_default();
    let (before, after) = authority.rsplit_once('@').unwrap_or_default();
    if scheme.is_empty() { before.contains(':') && !after.starts_with("sha") } else { authority.contains('@') }
}

fn parse_repository(text: &str) -> Result<Endpoint, EndpointError> {
    let reference: Reference = text.parse()?;
    let selected = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("@{digest}"),
        (None, Some(tag)) => tag.to_string(),
        (None, None) => return Ok(Endpoint::Repository(reference.repository)),
    };
    let repository = text.split('@').next().unwrap_or(text);
    let repository = match reference.tag {
        Some(tag) => repository.strip_suffix(&format!(":{tag}")).unwrap_or(repository),
        None => repository,
    };
    Err(EndpointError::OneImage { text: text.to_owned(), repository: repository.to_owned(), selected })
}

/// Parses a tree of repositories. Docker's rule for the host applies. Docker's rule that adds `library/` does not
/// apply, because a prefix is not a repository.
fn parse_tree(above: &str) -> Result<Endpoint, EndpointError> {
    let (first, rest) = above.split_once('/').map_or((above, None), |(first, rest)| (first, Some(rest)));
    Ok(if names_host(first) {
        Endpoint::Tree { host: first.parse()?, prefix: rest.map(str::parse).transpose()? }
    } else {
        Endpoint::Tree { host: "docker.io".parse()?, prefix: Some(above.parse()?) }
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => repository.fmt(f),
            Self::Tree { host, prefix: Some(prefix) } => write!(f, "{}/{prefix}/**", host.in_reference()),
            Self::Tree { host, prefix: None } => write!(f, "{}/**", host.in_reference()),
            Self::Layout(path) => write!(f, "{LAYOUT}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_endpoint_parses_to_the_same_endpoint() {
        for (text, printed) in [
            ("ubuntu", "docker.io/library/ubuntu"),
            ("ghcr.io/a/b", "ghcr.io/a/b"),
            ("ghcr.io/team/**", "ghcr.io/team/**"),
            ("localhost:5000/**", "localhost:5000/**"),
            ("bitnami/**", "docker.io/bitnami/**"),
            ("docker.io/bitnami/**", "docker.io/bitnami/**"),
            ("[::1]:5000/a/**", "[::1]:5000/a/**"),
            ("oci-layout:./mirror", "oci-layout:./mirror"),
            ("MyRegistry/a", "MYREGISTRY/a"),
            ("MyRegistry/**", "MYREGISTRY/**"),
            ("MyRegistry/a/**", "MYREGISTRY/a/**"),
            ("Localhost/**", "localhost/**"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), printed);
            assert_eq!(printed.parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn invalid_endpoint_is_refused_with_a_remedy() {
        let message = |text: &str| text.parse::<Endpoint>().unwrap_err().to_string();
        assert_eq!(message("oci-layout:"), r#"the path is missing after "oci-layout:": write oci-layout:./mirror"#);
        assert_eq!(
            message("alpine:3.20"),
            r#""alpine:3.20" names one image: write alpine here and "3.20" under tags.include"#
        );
        assert_eq!(
            message("ghcr.io/a/*"),
            "\"ghcr.io/a/*\" has a `*` in the wrong place: only `**` as the last part is allowed, like host/team/** \
             for all repositories below host/team"
        );
        assert!(message("ghcr.io/**/b").contains("wrong place"));
        assert!(message("**").contains("wrong place"));
        for secret in ["https://me:hunter2@ghcr.io/a", "me:hunter2@ghcr.io/a", "https://me@ghcr.io/a"] {
            assert!(message(secret).starts_with("a user name or password does not belong here"));
        }
        assert!(message("alpine:3.20@sha256:12").contains("sha256:12"));
    }

    #[test]
    fn leading_dot_of_a_path_is_ignored() {
        let layout = |path: &str| Endpoint::Layout(path.into());
        assert!(layout("./a/b").is_same_place(&layout("a/b/")));
        assert!(!layout("/a").is_same_place(&layout("a")));
    }
}
