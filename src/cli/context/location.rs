//! Argument of `copy`, `tags` and `inspect`: a repository, or one manifest of a repository. The repository is in a
//! registry, an image layout or an archive.

use std::fmt;
use std::str::FromStr;

use anyhow::anyhow;
use futures_util::TryStreamExt as _;

use crate::cli::exit::Failure;
use crate::config::{Endpoint, EndpointError, require_target_host};
use crate::oci::{Digest, ManifestRef, Reference, ReferenceError, Tag};
use crate::store::{Source, TagEntry};

/// Prefix of a registry's repository in skopeo's notation.
const DOCKER: &str = "docker://";
/// Prefixes of a layout: transship's prefix and skopeo's prefix.
const LAYOUTS: [&str; 2] = ["oci-layout:", "oci:"];
const ARCHIVE: &str = "oci-archive:";
/// Suffix of a tree of repositories.
const TREE: &str = "/**";
/// Maximum number of tags that an error message lists.
const SHOWN_TAGS: usize = 10;

/// Repository and, optionally, a manifest in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentLocation {
    /// Repository, or a tree of repositories.
    pub repository: Endpoint,
    /// Manifest. `None` if the text names no manifest.
    pub manifest: Option<ManifestRef>,
}

/// Reason why a text is not a [`ContentLocation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing follows `oci-layout:` or `oci-archive:`.
    #[error("the path is missing: expected {0}PATH[:TAG][@DIGEST]")]
    NoPath(&'static str),
    /// A URL is given as the path of a layout or an archive.
    #[error("{0} takes a path on this machine, not a URL: write {0}PATH[:TAG][@DIGEST], or HOST/REPOSITORY")]
    Url(&'static str),
    /// The text is not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is not an endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The part after the layout's path is not a tag.
    #[error(transparent)]
    Tag(#[from] crate::oci::NameError),
    /// The part after the `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] crate::oci::DigestError),
}

/// Parses one of these forms:
///
/// - `[docker://][host/]repository[:tag][@digest]` by Docker's rules, or a tree `host/prefix/**`,
/// - `oci-layout:PATH[:TAG][@DIGEST]` or `oci:PATH…`, or a tree `oci-layout:PATH/**`,
/// - `oci-archive:PATH[:TAG][@DIGEST]`.
///
/// After PATH, the text after the last colon is the tag, if this text contains no slash.
impl FromStr for ContentLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if let Some(rest) = LAYOUTS.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            if rest.ends_with(TREE) {
                return Ok(Self { repository: format!("{}{rest}", LAYOUTS[0]).parse()?, manifest: None });
            }
            let (path, manifest) = parse_path(LAYOUTS[0], rest)?;
            return Ok(Self { repository: Endpoint::Layout(path.into()), manifest });
        }
        if let Some(rest) = text.strip_prefix(ARCHIVE) {
            let (path, manifest) = parse_path(ARCHIVE, rest)?;
            return match path.ends_with(TREE) {
                true => Err(EndpointError::ArchiveTree.into()),
                false => Ok(Self { repository: Endpoint::Archive(path.into()), manifest }),
            };
        }
        let text = text.strip_prefix(DOCKER).unwrap_or(text);
        if text.contains('*') {
            return Ok(Self { repository: text.parse()?, manifest: None });
        }
        let reference: Reference = text.parse()?;
        let manifest = reference.manifest();
        Ok(Self { repository: Endpoint::Repository(reference.repository), manifest })
    }
}

/// Splits `PATH[:TAG][@DIGEST]`.
fn parse_path<'t>(prefix: &'static str, text: &'t str) -> Result<(&'t str, Option<ManifestRef>), LocationError> {
    if text.contains("://") {
        return Err(LocationError::Url(prefix));
    }
    let (rest, digest) = match text.rsplit_once("@sha") {
        Some((rest, digest)) => (rest, Some(format!("sha{digest}").parse::<Digest>()?)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse::<Tag>()?)),
        _ => (rest, None),
    };
    if path.is_empty() {
        return Err(LocationError::NoPath(prefix));
    }
    Ok((path, digest.map(ManifestRef::Digest).or(tag.map(ManifestRef::Tag))))
}

/// Target of a copy. Unlike a source, a target in a registry must contain the host of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLocation(pub ContentLocation);

impl FromStr for TargetLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let location: ContentLocation = text.parse()?;
        let text = text.strip_prefix(DOCKER).unwrap_or(text);
        require_target_host(text, &location.repository, &location)?;
        Ok(Self(location))
    }
}

impl ContentLocation {
    /// Returns the manifest that the location names. If the location names no manifest, returns the tag `latest`. If a
    /// layout or an archive has only one tag, returns this tag. `remedy` is the end of the error message for a layout
    /// or an archive with several tags but without `latest`.
    pub(crate) async fn choose_manifest(&self, source: &dyn Source, remedy: &str) -> Result<ManifestRef, Failure> {
        let latest: Tag = "latest".parse().expect("`latest` is a valid tag");
        match (&self.manifest, &self.repository) {
            (Some(manifest), _) => Ok(manifest.clone()),
            (None, Endpoint::Layout(_) | Endpoint::Archive(_)) => {
                let entries: Vec<TagEntry> = source.tags().try_collect().await?;
                Ok(self.choose_tag(entries, latest, remedy)?.into())
            }
            (None, _) => Ok(latest.into()),
        }
    }

    fn choose_tag(&self, entries: Vec<TagEntry>, latest: Tag, remedy: &str) -> Result<Tag, Failure> {
        let (mut tags, mut skipped) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                TagEntry::Tag(tag, _) | TagEntry::Locked(tag, _) => tags.push(tag),
                TagEntry::Unusable(name) => skipped.push(format!("the name {name:?} is not a tag")),
                TagEntry::Skipped(reason) => skipped.push(reason),
            }
        }
        match &tags[..] {
            tags if tags.contains(&latest) => Ok(latest),
            [only] => Ok(only.clone()),
            [] if skipped.is_empty() => Err(Failure::usage(anyhow!("{self} has no image"))),
            [] => Err(Failure::usage(anyhow!("{self} has no tag: {}", skipped.join("; ")))),
            several => {
                let mut shown: Vec<&str> = several.iter().take(SHOWN_TAGS).map(Tag::as_str).collect();
                if several.len() > SHOWN_TAGS {
                    shown.push("…");
                }
                let (count, shown) = (several.len(), shown.join(", "));
                Err(Failure::usage(anyhow!("{self} has {count} tags ({shown}): name one as {self}:TAG{remedy}")))
            }
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
            ("docker://ubuntu:24.04".into(), "docker.io/library/ubuntu:24.04".into()),
            ("localhost:5000/a/b:v1".into(), "localhost:5000/a/b:v1".into()),
            (format!("ghcr.io/a/b:v1@{digest}"), format!("ghcr.io/a/b@{digest}")),
            ("ghcr.io/a/**".into(), "ghcr.io/a/**".into()),
            ("oci-layout:./mirror".into(), "oci-layout:./mirror".into()),
            ("oci:./mirror:1.0".into(), "oci-layout:./mirror:1.0".into()),
            ("oci-layout:./mirror/**".into(), "oci-layout:./mirror/**".into()),
            ("oci-layout:/srv/a:b/mirror:1.0".into(), "oci-layout:/srv/a:b/mirror:1.0".into()),
            (format!("oci-layout:m@{digest}"), format!("oci-layout:m@{digest}")),
            ("oci-archive:x.tar".into(), "oci-archive:x.tar".into()),
            ("oci-archive:/srv/x.tar:v1".into(), "oci-archive:/srv/x.tar:v1".into()),
        ] {
            assert_eq!(text.parse::<ContentLocation>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn invalid_location_is_refused_with_a_reason() {
        let message = |text: &str| text.parse::<ContentLocation>().unwrap_err().to_string();
        assert_eq!(message("oci-layout:"), "the path is missing: expected oci-layout:PATH[:TAG][@DIGEST]");
        assert_eq!(message("oci-archive:"), "the path is missing: expected oci-archive:PATH[:TAG][@DIGEST]");
        assert!(message("oci-layout:m@sha256:1").starts_with(r#""sha256:1" is not a digest"#));
        assert!(message("oci-layout:s3://bucket/mirror").starts_with("oci-layout: takes a path on this machine"));
        assert!(message("oci-archive:x/**").starts_with("an archive contains one repository"));
        assert!(message("https://ghcr.io/a").contains("has a scheme"));
        assert!(message("docker-daemon:alpine:3").contains("oci-archive:PATH"));
        assert!(message("127.0.0.1:23001").contains("is a registry without a repository"));
    }

    #[test]
    fn target_without_a_registry_is_refused() {
        let message = |text: &str| text.parse::<TargetLocation>().unwrap_err().to_string();
        assert_eq!(
            message("me/app:v1"),
            "\"me/app:v1\" is a target without a registry: write HOST/me/app:v1, or docker.io/me/app:v1 for Docker Hub"
        );
        for text in ["docker://docker.io/me/app", "h.example/a:v1", "oci:x:v1", "oci-archive:x.tar"] {
            assert!(text.parse::<TargetLocation>().is_ok(), "{text}");
        }
    }

    #[test]
    fn layout_without_tag_means_latest_or_its_only_tag() {
        let location: ContentLocation = "oci-layout:x".parse().unwrap();
        let chosen = |tags: &[&str]| {
            let entries = tags.iter().map(|tag| TagEntry::Tag(tag.parse().unwrap(), None)).collect();
            let chosen = location.choose_tag(entries, "latest".parse().unwrap(), ", or copy all with --all-tags");
            chosen.map(|tag| tag.to_string()).map_err(|failure| failure.to_string())
        };
        assert_eq!(chosen(&["v1", "latest"]).as_deref(), Ok("latest"));
        assert_eq!(chosen(&["v1"]).as_deref(), Ok("v1"));
        assert_eq!(chosen(&[]), Err("error: oci-layout:x has no image".to_owned()));
        let expected =
            "error: oci-layout:x has 2 tags (v1, v2): name one as oci-layout:x:TAG, or copy all with --all-tags";
        assert_eq!(chosen(&["v1", "v2"]), Err(expected.to_owned()));
        let unnamed = vec![TagEntry::Skipped("an image has no name; select it by its digest: @sha256:1".to_owned())];
        let message = location.choose_tag(unnamed, "latest".parse().unwrap(), "").unwrap_err().to_string();
        assert!(message.ends_with("has no tag: an image has no name; select it by its digest: @sha256:1"));
    }
}
