//! Argument of `copy`, `tags` and `inspect`: a repository, or one manifest in it, in a registry or in a layout on
//! disk.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::Endpoint;
use crate::oci::{Digest, ManifestRef, Reference, ReferenceError, Repository, Tag};

const LAYOUT: &str = "oci-layout:";

/// Repository and, optionally, a manifest in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentLocation {
    /// Repository.
    pub repository: RepositoryLocation,
    /// Manifest. `None` means the repository as a whole.
    pub manifest: Option<ManifestRef>,
}

/// Location of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryLocation {
    /// Repository in a registry.
    Registry(Repository),
    /// OCI image layout on disk.
    Layout(PathBuf),
}

impl RepositoryLocation {
    /// Returns the endpoint, as the configuration has it.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Registry(repository) => Endpoint::Repository(repository.clone()),
            Self::Layout(path) => Endpoint::Layout(path.clone()),
        }
    }
}

/// Reason why a text is not a [`ContentLocation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing follows `oci-layout:`.
    #[error("the path is missing: expected oci-layout:PATH[:TAG][@DIGEST]")]
    NoPath,
    /// A URL is given as the path of a layout.
    #[error(
        "a layout is a folder on this machine, not a URL: write oci-layout:PATH[:TAG][@DIGEST], or HOST/REPOSITORY"
    )]
    Url,
    /// The text is not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The part after the layout's path is not a tag.
    #[error(transparent)]
    Tag(#[from] crate::oci::NameError),
    /// The part after the `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] crate::oci::DigestError),
}

/// Parses `[host/]repository[:tag][@digest]` by Docker's rules, or `oci-layout:PATH[:TAG][@DIGEST]`. In a layout, the
/// tag is the text after the last colon, if no slash follows that colon.
impl FromStr for ContentLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let Some(rest) = text.strip_prefix(LAYOUT) else {
            let reference: Reference = text.parse()?;
            let manifest = reference.manifest();
            return Ok(Self { repository: RepositoryLocation::Registry(reference.repository), manifest });
        };
        if rest.contains("://") {
            return Err(LocationError::Url);
        }
        let (rest, digest) = match rest.rsplit_once("@sha") {
            Some((rest, digest)) => (rest, Some(format!("sha{digest}").parse::<Digest>()?)),
            None => (rest, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse::<Tag>()?)),
            _ => (rest, None),
        };
        if path.is_empty() {
            return Err(LocationError::NoPath);
        }
        let manifest = digest.map(ManifestRef::Digest).or(tag.map(ManifestRef::Tag));
        Ok(Self { repository: RepositoryLocation::Layout(path.into()), manifest })
    }
}

impl fmt::Display for RepositoryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(repository) => repository.fmt(f),
            Self::Layout(path) => write!(f, "{LAYOUT}{}", path.display()),
        }
    }
}

impl fmt::Display for ContentLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        match &self.manifest {
            Some(ManifestRef::Tag(tag)) => write!(f, ":{tag}"),
            Some(ManifestRef::Digest(digest)) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_is_a_repository_or_a_manifest_in_it() {
        let digest = Digest::of(b"x");
        for (text, printed) in [
            ("ubuntu".to_owned(), "docker.io/library/ubuntu".to_owned()),
            ("localhost:5000/a/b:v1".into(), "localhost:5000/a/b:v1".into()),
            (format!("ghcr.io/a/b:v1@{digest}"), format!("ghcr.io/a/b@{digest}")),
            ("oci-layout:./mirror".into(), "oci-layout:./mirror".into()),
            ("oci-layout:/srv/a:b/mirror:1.0".into(), "oci-layout:/srv/a:b/mirror:1.0".into()),
            (format!("oci-layout:m@{digest}"), format!("oci-layout:m@{digest}")),
        ] {
            assert_eq!(text.parse::<ContentLocation>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn invalid_location_is_refused_with_a_reason() {
        let message = |text: &str| text.parse::<ContentLocation>().unwrap_err().to_string();
        assert_eq!(message("oci-layout:"), "the path is missing: expected oci-layout:PATH[:TAG][@DIGEST]");
        assert!(message("oci-layout:m@sha256:1").starts_with(r#""sha256:1" is not a digest"#));
        assert!(message("oci-layout:s3://bucket/mirror").starts_with("a layout is a folder on this machine"));
        assert!(message("https://ghcr.io/a").contains("has a scheme"));
    }
}
