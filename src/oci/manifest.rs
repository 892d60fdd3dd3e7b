//! Manifests: the bytes as they came, which alone are ever sent on, and a parsed view to walk by.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageIndex, OciImageManifest};
use serde::Deserialize;

use super::{Descriptor, Digest, MediaType, Platform};

/// The most children that an index may list before it is refused as hostile.
pub const MAX_CHILDREN: usize = 1024;

/// A manifest: verbatim bytes, their media type, their digest.
///
/// The digest is always computed from the bytes, so a manifest cannot claim another one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    bytes: Bytes,
    media_type: MediaType,
    digest: Digest,
}

/// What a manifest says, for walking its closure. Never written back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestView {
    /// What the manifest points at.
    pub children: Children,
    /// The manifest that this one refers to, if it is a referrer.
    pub subject: Option<Digest>,
    /// What kind of artifact it is: `artifactType`, else the configuration's media type.
    pub artifact_type: Option<String>,
    /// The manifest's own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Children {
    /// An image or artifact: a configuration and layers, all of them blobs.
    Blobs {
        /// The configuration.
        config: Descriptor,
        /// The layers, in order. A digest may stand in it twice.
        layers: Vec<Descriptor>,
    },
    /// An index or manifest list: other manifests, which may be indexes again.
    Manifests(Vec<Descriptor>),
}

/// Why some bytes are not a manifest that can be copied.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Docker's schema 1, whose content cannot be verified by digest.
    #[error("it is a Docker manifest of schema 1, which is not copied: push the image again with a current client")]
    Schema1,
    /// A manifest of a type that nothing is known of.
    #[error("its media type {0} is not a manifest that can be copied")]
    MediaType(MediaType),
    /// The bytes are not JSON of the shape that the media type asks for.
    #[error("it is not a valid {media_type}: {reason}")]
    Malformed {
        /// The type that the content claims.
        media_type: MediaType,
        /// What is wrong with it.
        reason: String,
    },
    /// More children than [`MAX_CHILDREN`].
    #[error("it lists {0} manifests, and at most {MAX_CHILDREN} are accepted")]
    TooManyChildren(usize),
}

/// The properties that tell what some JSON is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    subject: Option<OciDescriptor>,
}

impl Manifest {
    /// Takes `bytes` as a manifest of `media_type`, with the SHA-256 digest of the bytes.
    #[must_use]
    pub fn new(media_type: MediaType, bytes: Bytes) -> Self {
        let digest = Digest::of(&bytes);
        Self { bytes, media_type, digest }
    }

    /// Takes `bytes` as what was asked for by `wanted`, under the same algorithm.
    ///
    /// The type is `stated` (the `Content-Type`) where that names a manifest, else the one that the bytes
    /// state of themselves or show by their shape. The caller compares [`Manifest::digest`] with `wanted`.
    #[must_use]
    pub fn received(stated: Option<&MediaType>, bytes: Bytes, wanted: Option<&Digest>) -> Self {
        let media_type = match stated {
            Some(stated) if stated.is_manifest() || stated.is_schema_1() => stated.clone(),
            _ => type_of(&bytes).or_else(|| stated.cloned()).unwrap_or_else(|| MediaType::new("")),
        };
        let digest = wanted.map_or_else(|| Digest::of(&bytes), |wanted| wanted.same_algorithm_of(&bytes));
        Self { bytes, media_type, digest }
    }

    /// The bytes, exactly as they came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The media type to state when the bytes are sent on.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Type, digest and size.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }

    /// Reads what the manifest says.
    ///
    /// # Errors
    /// [`ManifestError`] for schema 1, an unknown type, a malformed body, too many children.
    pub fn view(&self) -> Result<ManifestView, ManifestError> {
        if self.media_type.is_schema_1() {
            return Err(ManifestError::Schema1);
        }
        let probe: Probe = self.parse()?;
        if probe.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        if !self.media_type.is_manifest() {
            return Err(ManifestError::MediaType(self.media_type.clone()));
        }
        let subject = probe.subject.map(|subject| self.descriptor_of(subject)).transpose()?.map(|d| d.digest);
        if self.media_type.is_index() {
            let index: OciImageIndex = self.parse()?;
            if index.manifests.len() > MAX_CHILDREN {
                return Err(ManifestError::TooManyChildren(index.manifests.len()));
            }
            let manifests = index.manifests.into_iter().map(|entry| self.child_of(entry)).collect::<Result<_, _>>()?;
            return Ok(ManifestView {
                children: Children::Manifests(manifests),
                subject,
                artifact_type: index.artifact_type,
                annotations: index.annotations.unwrap_or_default(),
            });
        }
        let image: OciImageManifest = self.parse()?;
        let config = self.descriptor_of(image.config)?;
        let layers = image.layers.into_iter().map(|layer| self.descriptor_of(layer)).collect::<Result<_, _>>()?;
        let artifact_type = image.artifact_type.or_else(|| Some(config.media_type.to_string()));
        let annotations = image.annotations.unwrap_or_default();
        Ok(ManifestView { children: Children::Blobs { config, layers }, subject, artifact_type, annotations })
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ManifestError> {
        serde_json::from_slice(&self.bytes).map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, reason: String) -> ManifestError {
        ManifestError::Malformed { media_type: self.media_type.clone(), reason }
    }

    fn descriptor_of(&self, raw: OciDescriptor) -> Result<Descriptor, ManifestError> {
        Ok(Descriptor {
            media_type: MediaType::new(&raw.media_type),
            digest: raw.digest.parse().map_err(|error: super::DigestError| self.malformed(error.to_string()))?,
            size: u64::try_from(raw.size).map_err(|_| self.malformed(format!("a size of {}", raw.size)))?,
            platform: None,
            artifact_type: raw.artifact_type,
            annotations: raw.annotations.unwrap_or_default(),
            has_urls: raw.urls.is_some_and(|urls| !urls.is_empty()),
        })
    }

    fn child_of(&self, raw: ImageIndexEntry) -> Result<Descriptor, ManifestError> {
        Ok(Descriptor {
            media_type: MediaType::new(&raw.media_type),
            digest: raw.digest.parse().map_err(|error: super::DigestError| self.malformed(error.to_string()))?,
            size: u64::try_from(raw.size).map_err(|_| self.malformed(format!("a size of {}", raw.size)))?,
            platform: raw.platform.map(|platform| Platform {
                os: platform.os.to_string(),
                architecture: platform.architecture.to_string(),
                variant: platform.variant,
                os_version: platform.os_version,
            }),
            artifact_type: raw.artifact_type,
            annotations: raw.annotations.unwrap_or_default(),
            has_urls: false,
        })
    }
}

/// The type that a body states of itself, else the OCI type of its shape.
fn type_of(bytes: &[u8]) -> Option<MediaType> {
    let probe: Probe = serde_json::from_slice(bytes).ok()?;
    match probe {
        Probe { media_type: Some(media_type), .. } => Some(MediaType::new(&media_type)),
        Probe { schema_version: Some(1), .. } => {
            Some(MediaType::new("application/vnd.docker.distribution.manifest.v1+json"))
        }
        Probe { manifests: Some(_), .. } => Some(MediaType::new(MediaType::OCI_INDEX)),
        Probe { config: Some(_), .. } => Some(MediaType::new(MediaType::OCI_MANIFEST)),
        _ => None,
    }
}

impl ManifestView {
    /// Every blob that the manifest itself points at: the configuration, then the layers.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        match &self.children {
            Children::Blobs { config, layers } => std::iter::once(config).chain(layers).collect(),
            Children::Manifests(_) => Vec::new(),
        }
    }

    /// Every manifest that an index lists.
    #[must_use]
    pub fn manifests(&self) -> &[Descriptor] {
        match &self.children {
            Children::Blobs { .. } => &[],
            Children::Manifests(manifests) => manifests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(media_type: &str, body: serde_json::Value) -> Manifest {
        Manifest::new(MediaType::new(media_type), body.to_string().into())
    }

    fn blob(size: i64) -> serde_json::Value {
        serde_json::json!({"mediaType": "application/octet-stream", "digest": Digest::of(b"x").to_string(), "size": size})
    }

    #[test]
    fn an_image_of_either_family_shows_its_blobs_and_subject() {
        for media_type in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
            let body =
                serde_json::json!({"schemaVersion": 2, "config": blob(1), "layers": [blob(2)], "subject": blob(3)});
            let view = manifest(media_type, body).view().unwrap();
            assert_eq!(view.blobs().len(), 2);
            assert_eq!(view.subject, Some(Digest::of(b"x")));
            assert_eq!(view.artifact_type.as_deref(), Some("application/octet-stream"));
        }
    }

    #[test]
    fn an_index_with_unknown_platforms_and_none_is_read() {
        let mut child = blob(2);
        child["platform"] = serde_json::json!({"os": "plan9", "architecture": "mips9000"});
        let body = serde_json::json!({"schemaVersion": 2, "manifests": [child, blob(3)], "subject": blob(1)});
        let view = manifest(MediaType::OCI_INDEX, body).view().unwrap();
        assert_eq!(view.manifests()[0].platform.as_ref().unwrap().to_string(), "plan9/mips9000");
        assert_eq!(view.manifests()[1].platform, None);
        assert!(view.subject.is_some());
    }

    #[test]
    fn schema_1_is_refused_by_name_whatever_type_it_claims() {
        for media_type in [MediaType::DOCKER_MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws"] {
            let error = manifest(media_type, serde_json::json!({"schemaVersion": 1})).view().unwrap_err();
            assert!(matches!(error, ManifestError::Schema1), "{error}");
        }
    }

    #[test]
    fn a_body_that_lies_about_its_shape_is_an_error_and_no_panic() {
        for body in ["", "{}", "[]", "{\"schemaVersion\":2,\"manifests\":[{}]}"] {
            for media_type in MediaType::ACCEPTED {
                assert!(Manifest::new(MediaType::new(media_type), body.into()).view().is_err(), "{body} {media_type}");
            }
        }
        let negative = serde_json::json!({"schemaVersion": 2, "config": blob(-1), "layers": []});
        assert!(manifest(MediaType::OCI_MANIFEST, negative).view().is_err());
        let many = serde_json::json!({"schemaVersion": 2, "manifests": vec![blob(1); MAX_CHILDREN + 1]});
        assert!(matches!(manifest(MediaType::OCI_INDEX, many).view(), Err(ManifestError::TooManyChildren(1025))));
    }

    #[test]
    fn a_content_type_that_names_no_manifest_gives_way_to_the_body() {
        let body = serde_json::json!({"schemaVersion": 2, "config": blob(1), "layers": []}).to_string();
        let received = Manifest::received(Some(&MediaType::new("application/json")), body.clone().into(), None);
        assert_eq!(received.media_type().as_str(), MediaType::OCI_MANIFEST);
        let received = Manifest::received(Some(&MediaType::new(MediaType::DOCKER_MANIFEST)), body.into(), None);
        assert_eq!(received.media_type().as_str(), MediaType::DOCKER_MANIFEST);
    }
}
