//! Media types of manifests, configurations and layers (image-spec, "Media Types").

use std::fmt;
use std::sync::Arc;

use oci_client::manifest as known;

/// Media type that a registry or a descriptor states, without parameters.
///
/// Any text is valid, because an artifact can have any type.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaType(Arc<str>);

/// Kind of content that a media type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// A manifest or an index.
    Manifest,
    /// A layer, a configuration or another blob.
    Blob,
    /// An unknown type: the content can be a manifest or a blob.
    Unknown,
}

/// Prefixes of the types of known blobs: layers and configurations of OCI and Docker, BuildKit's cache and plain bytes.
const BLOBS: [&str; 7] = [
    "application/vnd.oci.image.layer.",
    "application/vnd.oci.image.config.",
    "application/vnd.oci.empty.",
    "application/vnd.docker.image.rootfs.",
    "application/vnd.docker.container.image.",
    "application/vnd.buildkit.cacheconfig.",
    "application/octet-stream",
];

impl MediaType {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &'static str = known::OCI_IMAGE_MEDIA_TYPE;
    /// OCI image index.
    pub const OCI_INDEX: &'static str = known::OCI_IMAGE_INDEX_MEDIA_TYPE;
    /// Docker's manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &'static str = known::IMAGE_MANIFEST_MEDIA_TYPE;
    /// Docker's manifest list.
    pub const DOCKER_LIST: &'static str = known::IMAGE_MANIFEST_LIST_MEDIA_TYPE;
    /// Artifact manifest of the release candidates of image-spec 1.1. Registries still contain such manifests.
    pub const OCI_ARTIFACT: &'static str = "application/vnd.oci.artifact.manifest.v1+json";
    /// Artifact manifest of ORAS, with the properties of the OCI artifact manifest.
    pub const ORAS_ARTIFACT: &'static str = "application/vnd.cncf.oras.artifact.manifest.v1+json";
    /// Values of the `Accept` header of a client that reads all of the types above.
    pub const ACCEPTED: [&'static str; 6] = [
        Self::OCI_INDEX,
        Self::DOCKER_LIST,
        Self::OCI_MANIFEST,
        Self::DOCKER_MANIFEST,
        Self::OCI_ARTIFACT,
        Self::ORAS_ARTIFACT,
    ];

    /// Parses the value of a `Content-Type` header and drops parameters such as `; charset=utf-8`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split(';').next().unwrap_or_default().trim().into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if content of this type lists other manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Returns true if content of this type is an artifact manifest: blobs without a configuration.
    #[must_use]
    pub fn is_artifact(&self) -> bool {
        matches!(self.as_str(), Self::OCI_ARTIFACT | Self::ORAS_ARTIFACT)
    }

    /// Returns the kind of content of this type.
    #[must_use]
    pub fn kind(&self) -> ContentKind {
        if self.is_manifest() || self.is_schema_1() {
            return ContentKind::Manifest;
        }
        let is_blob = BLOBS.iter().any(|beginning| self.as_str().starts_with(beginning));
        if is_blob { ContentKind::Blob } else { ContentKind::Unknown }
    }

    /// Returns true if content of this type is an image manifest, an index or an artifact manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        Self::ACCEPTED.contains(&self.as_str())
    }

    /// Returns true for Docker's manifest of schema 1, signed or not.
    /// [`ManifestError::Schema1`](super::ManifestError::Schema1) rejects such manifests.
    #[must_use]
    pub fn is_schema_1(&self) -> bool {
        matches!(
            self.as_str(),
            "application/vnd.docker.distribution.manifest.v1+json"
                | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        )
    }

    /// Returns true if clients must not upload a layer of this type to a registry (image-spec, "Non-Distributable
    /// Layers"; Docker calls such layers foreign).
    #[must_use]
    pub fn is_nondistributable(&self) -> bool {
        self.as_str().starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.as_str().starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for MediaType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_content_type_are_dropped() {
        let media_type = MediaType::new("application/vnd.oci.image.index.v1+json; charset=utf-8");
        assert_eq!(media_type.as_str(), MediaType::OCI_INDEX);
        assert!(media_type.is_index() && media_type.is_manifest());
    }

    #[test]
    fn foreign_layers_of_both_families_are_recognised() {
        for text in [
            known::IMAGE_LAYER_NONDISTRIBUTABLE_MEDIA_TYPE,
            known::IMAGE_LAYER_NONDISTRIBUTABLE_GZIP_MEDIA_TYPE,
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ] {
            assert!(MediaType::new(text).is_nondistributable(), "{text}");
        }
        assert!(!MediaType::new(known::IMAGE_LAYER_MEDIA_TYPE).is_nondistributable());
    }
}
