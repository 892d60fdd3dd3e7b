//! References: how people name a repository and a manifest in it, by Docker's rules.

use std::fmt;
use std::str::FromStr;

use super::{Digest, DigestError, NameError, RegistryHost, RepositoryName, Tag};

/// One repository of one registry: `docker.io/library/ubuntu`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// The registry.
    pub host: RegistryHost,
    /// The repository's name there.
    pub name: RepositoryName,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// What names a manifest within a repository.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ManifestRef {
    /// By a tag, which may move.
    Tag(Tag),
    /// By its digest, which may not.
    Digest(Digest),
}

impl fmt::Display for ManifestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Debug for ManifestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Tag> for ManifestRef {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for ManifestRef {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A repository with, perhaps, a tag and a digest: `ubuntu:24.04@sha256:…`.
///
/// Read by Docker's rules: a first part without `.` or `:` that is not `localhost` is no host, so `ubuntu` is
/// `docker.io/library/ubuntu`. Unlike Docker, a missing tag stays missing: it means the whole repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The repository.
    pub repository: Repository,
    /// The tag, where one is written.
    pub tag: Option<Tag>,
    /// The digest, where one is written; it decides over the tag.
    pub digest: Option<Digest>,
}

/// Why a text is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A scheme such as `https://` or `docker://` stands before the host.
    #[error("{text:?} has a scheme: write {without:?}")]
    Scheme {
        /// The whole text.
        text: String,
        /// The text without its scheme.
        without: String,
    },
    /// The text as a whole is not a reference.
    #[error("{0:?} is not a reference: expected [host/]repository[:tag][@digest]")]
    Shape(String),
    /// One of its names is outside its grammar.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its digest is not one.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// What names the manifest, `None` for the whole repository. The digest decides over the tag.
    #[must_use]
    pub fn manifest(&self) -> Option<ManifestRef> {
        self.digest.map(ManifestRef::Digest).or_else(|| self.tag.clone().map(ManifestRef::Tag))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some((_, without)) = text.split_once("://") {
            return Err(ReferenceError::Scheme { text: text.to_owned(), without: without.to_owned() });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && !tag.ends_with(']') => (name, Some(tag.parse::<Tag>()?)),
            _ => (rest, None),
        };
        Ok(Self { repository: repository(name, text)?, tag, digest })
    }
}

/// Docker's rules for host and `library/`, as oci-client knows them, with two mends: an upper-case letter in
/// the host is no error, and an IPv6 address is a host.
fn repository(name: &str, whole: &str) -> Result<Repository, ReferenceError> {
    if let Some((host, path)) = name.split_once('/')
        && (host.starts_with('[') || host.bytes().any(|b| b.is_ascii_uppercase()))
    {
        return Ok(Repository { host: host.parse()?, name: path.parse()? });
    }
    if let Some(path) = name.split_once('/').map_or(Some(name), |(_, path)| Some(path))
        && path.bytes().any(|b| b.is_ascii_uppercase())
    {
        return Err(NameError::Repository(path.to_owned()).into());
    }
    let parsed: oci_client::Reference = name.parse().map_err(|_| ReferenceError::Shape(whole.to_owned()))?;
    let host: RegistryHost = parsed.registry().parse()?;
    let path = match parsed.repository() {
        path if host.is_docker_hub() && !path.contains('/') => format!("library/{path}"),
        path => path.to_owned(),
    };
    Ok(Repository { host, name: path.parse()? })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn dockers_host_rules_hold() {
        assert_eq!(read("ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("ubuntu:24.04"), "docker.io/library/ubuntu:24.04");
        assert_eq!(read("bitnami/redis"), "docker.io/bitnami/redis");
        assert_eq!(read("docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("index.docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("registry-1.docker.io/ubuntu"), "docker.io/library/ubuntu");
        assert_eq!(read("localhost/x"), "localhost/x");
        assert_eq!(read("localhost:5000/x:y"), "localhost:5000/x:y");
        assert_eq!(read("10.0.0.5:5000/a/b/c"), "10.0.0.5:5000/a/b/c");
        assert_eq!(read("[::1]:5000/a:b"), "[::1]:5000/a:b");
        assert_eq!(read("GHCR.io/a/b"), "ghcr.io/a/b");
        let digest = Digest::of(b"x");
        assert_eq!(read(&format!("a/b:c@{digest}")), format!("docker.io/a/b:c@{digest}"));
    }

    #[test]
    fn a_missing_tag_means_the_whole_repository() {
        let reference: Reference = "ghcr.io/a/b".parse().unwrap();
        assert_eq!(reference.manifest(), None);
    }

    #[test]
    fn a_text_that_is_no_reference_is_refused_with_a_way_out() {
        let message = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(message("https://ghcr.io/a"), r#""https://ghcr.io/a" has a scheme: write "ghcr.io/a""#);
        assert_eq!(message(""), r#""" is not a reference: expected [host/]repository[:tag][@digest]"#);
        assert!(message("ghcr.io/A/b").starts_with(r#""A/b" is not a repository name"#));
        assert!(message("a:b@sha256:1").starts_with(r#""sha256:1" is not a digest"#));
    }
}
