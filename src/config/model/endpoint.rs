//! Endpoints as written in `source` and `target`: a repository, a tree of repositories, an image layout on disk, a tree
//! of layouts or an archive. The module contains only the names of endpoints; `registry` and `layout` read and write
//! their content.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::oci::{NameError, Reference, ReferenceError, RegistryHost, Repository, RepositoryName, names_host};

const LAYOUT: &str = "oci-layout:";
const ARCHIVE: &str = "oci-archive:";
/// Suffix of a tree.
const TREE: &str = "/**";

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
    /// Every OCI image layout below a folder, `oci-layout:PATH/**`: one layout for each repository.
    LayoutTree(PathBuf),
    /// OCI archive, a tar file of an image layout: `oci-archive:PATH`, relative to the working directory.
    Archive(PathBuf),
}

/// Reason why a text is not a valid [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Missing path after `oci-layout:`.
    #[error("the path is missing after {LAYOUT:?}: write oci-layout:./mirror")]
    NoPath,
    /// Missing path after `oci-archive:`.
    #[error("the path is missing after {ARCHIVE:?}: write oci-archive:./mirror.tar")]
    NoArchivePath,
    /// Archive with `/**`.
    #[error("an archive contains one repository: write oci-layout:PATH/** for several repositories")]
    ArchiveTree,
    /// URL in place of a layout's path. The message does not repeat the text, which may contain a password.
    #[error("a layout is a folder on this machine, not a URL: write oci-layout:/srv/mirror, or HOST/REPOSITORY")]
    LayoutUrl,
    /// URL in place of an archive's path. The message does not repeat the text, which may contain a password.
    #[error("an archive is a file on this machine, not a URL: write oci-archive:/srv/mirror.tar, or HOST/REPOSITORY")]
    ArchiveUrl,
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
        /// Tag, or `@` and digest, without the repository.
        selected: String,
    },
    /// Tag after the repository of a target.
    #[error(
        "{text:?} names one image: write {repository}; the keys `rename` and `tag` of the entry give a tag another \
         name at the target"
    )]
    TargetTag {
        /// Complete text.
        text: String,
        /// Repository without its tag.
        repository: String,
    },
    /// Digest after the repository of a target.
    #[error("{text:?} names one image: write {repository}; a target has the digests of its source")]
    TargetDigest {
        /// Complete text.
        text: String,
        /// Repository without its digest.
        repository: String,
    },
    /// Target without a registry.
    #[error("{text:?} is a target without a registry: write HOST/{text}, or {at_docker_hub} for Docker Hub")]
    TargetWithoutHost {
        /// Complete text.
        text: String,
        /// Endpoint at Docker Hub that the text means by Docker's rules, such as `docker.io/library/myuser`.
        at_docker_hub: String,
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
    /// Returns true if both endpoints name the same place. Compares paths as written, without `.` parts and superfluous
    /// slashes.
    #[must_use]
    pub fn is_same_place(&self, other: &Endpoint) -> bool {
        self.normalized() == other.normalized()
    }

    /// Returns the endpoint without `.` parts and superfluous slashes in its path.
    pub(crate) fn normalized(&self) -> Endpoint {
        match self {
            Self::Layout(path) => Self::Layout(without_dots(path)),
            Self::LayoutTree(path) => Self::LayoutTree(without_dots(path)),
            Self::Archive(path) => Self::Archive(without_dots(path)),
            Self::Repository(_) | Self::Tree { .. } => self.clone(),
        }
    }

    /// Returns true if the endpoint names several repositories.
    #[must_use]
    pub fn is_tree(&self) -> bool {
        matches!(self, Self::Tree { .. } | Self::LayoutTree(_))
    }

    /// Returns the registry, or `None` for layouts and archives.
    #[must_use]
    pub fn host(&self) -> Option<&RegistryHost> {
        match self {
            Self::Repository(repository) => Some(&repository.host),
            Self::Tree { host, .. } => Some(host),
            Self::Layout(_) | Self::LayoutTree(_) | Self::Archive(_) => None,
        }
    }
}

fn without_dots(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix(LAYOUT) {
            return match path {
                "" => Err(EndpointError::NoPath),
                url if url.contains("://") => Err(EndpointError::LayoutUrl),
                "**" => Err(EndpointError::Star(text.to_owned())),
                path => match path.strip_suffix(TREE) {
                    Some("") => Err(EndpointError::NoPath),
                    Some(root) => Ok(Self::LayoutTree(root.into())),
                    None => Ok(Self::Layout(path.into())),
                },
            };
        }
        if let Some(path) = text.strip_prefix(ARCHIVE) {
            return match path {
                "" => Err(EndpointError::NoArchivePath),
                url if url.contains("://") => Err(EndpointError::ArchiveUrl),
                tree if tree.ends_with(TREE) => Err(EndpointError::ArchiveTree),
                path => Ok(Self::Archive(path.into())),
            };
        }
        if has_user_info(text) {
            return Err(EndpointError::UserInfo);
        }
        if let Some(above) = text.strip_suffix(TREE).filter(|above| !above.contains("://")) {
            return if above.contains('*') { Err(EndpointError::Star(text.to_owned())) } else { parse_tree(above) };
        }
        if text.contains('*') {
            return Err(EndpointError::Star(text.to_owned()));
        }
        parse_repository(text)
    }
}

/// Endpoint as written in `target` and `targets`. Unlike a source, a target in a registry must contain the host of the
/// registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetEndpoint(pub(crate) Endpoint);

impl FromStr for TargetEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let endpoint = text.parse::<Endpoint>().map_err(|error| match error {
            EndpointError::OneImage { text, repository, selected } if selected.starts_with('@') => {
                EndpointError::TargetDigest { text, repository }
            }
            EndpointError::OneImage { text, repository, .. } => EndpointError::TargetTag { text, repository },
            other => other,
        })?;
        require_target_host(text, &endpoint, &endpoint)?;
        Ok(Self(endpoint))
    }
}

/// Returns an error if `text` is a repository without the host of its registry. `printed` is the same target with the
/// host that Docker's rules add (`docker.io`).
pub(crate) fn require_target_host(
    text: &str,
    endpoint: &Endpoint,
    printed: &dyn fmt::Display,
) -> Result<(), EndpointError> {
    let has_host = text.split_once('/').is_some_and(|(first, _)| names_host(first));
    if endpoint.host().is_none() || has_host {
        return Ok(());
    }
    Err(EndpointError::TargetWithoutHost { text: text.to_owned(), at_docker_hub: printed.to_string() })
}

/// Returns true if `text` contains a user name or a password, such as `https://USER@HOST` or `USER:PASSWORD@HOST`.
/// Returns false for `NAME:TAG@DIGEST`.
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

/// Parses a tree of repositories, given the text before `/**`. Without a host, the registry is Docker Hub. A prefix
/// gets no `library/`: `bitnami/**` means `docker.io/bitnami/**`.
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
            Self::LayoutTree(path) => write!(f, "{LAYOUT}{}{TREE}", path.display()),
            Self::Archive(path) => write!(f, "{ARCHIVE}{}", path.display()),
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
            ("oci-layout:./mirror/**", "oci-layout:./mirror/**"),
            ("oci-archive:./mirror.tar", "oci-archive:./mirror.tar"),
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
    fn invalid_local_endpoint_is_refused_with_a_remedy() {
        let message = |text: &str| text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(message("oci-archive:").contains("write oci-archive:./mirror.tar"));
        assert!(message("oci-archive:/srv/x/**").starts_with("an archive contains one repository"));
        assert!(message("oci-archive:https://x/y.tar").starts_with("an archive is a file on this machine"));
        assert!(message("oci-layout:**").contains("wrong place"));
        assert_eq!(message("oci:/path"), r#""oci:/path" is not in a registry: write oci-layout:/path"#);
        for text in ["./x", "dir:/x", "docker-daemon:x:1"] {
            assert!(message(text).contains("oci-layout:"), "{}", message(text));
        }
    }

    #[test]
    fn target_without_registry_or_with_tag_is_refused() {
        let message = |text: &str| text.parse::<TargetEndpoint>().unwrap_err().to_string();
        assert_eq!(
            message("myuser"),
            r#""myuser" is a target without a registry: write HOST/myuser, or docker.io/library/myuser for Docker Hub"#
        );
        assert!(message("myuser/**").ends_with("write HOST/myuser/**, or docker.io/myuser/** for Docker Hub"));
        assert_eq!(
            message("h.example/app:1.2.0"),
            "\"h.example/app:1.2.0\" names one image: write h.example/app; the keys `rename` and `tag` of the entry \
             give a tag another name at the target"
        );
        let digest = crate::oci::Digest::of(b"x");
        assert!(message(&format!("h.example/app@{digest}")).ends_with("a target has the digests of its source"));
        assert_eq!(
            message("127.0.0.1:23002"),
            "127.0.0.1:23002 is a registry without a repository: write 127.0.0.1:23002/REPOSITORY"
        );
        for text in ["docker.io/me/app", "localhost:5000/app", "oci-layout:x", "oci-archive:x", "h.example/**"] {
            assert!(text.parse::<TargetEndpoint>().is_ok(), "{text}");
        }
    }

    #[test]
    fn leading_dot_of_a_path_is_ignored() {
        let layout = |path: &str| Endpoint::Layout(path.into());
        assert!(layout("./a/b").is_same_place(&layout("a/b/")));
        assert!(!layout("/a").is_same_place(&layout("a")));
    }
}
