//! Manifests: the verbatim bytes, and a parsed view of their content. A target gets only the verbatim bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::document::{Document, RawDescriptor, RawSize, without_mark};
use super::{ContentKind, Descriptor, Digest, MediaType};

/// Maximum number of children of an index.
pub const MAX_CHILDREN: usize = 1024;

/// Manifest: verbatim bytes, their media type and their digest.
///
/// The digest is always computed from the bytes.
///
/// ```
/// use transship::oci::{Digest, Manifest, MediaType};
///
/// let bytes: &[u8] = br#"{"schemaVersion": 2,
///   "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
///     "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
///   "layers": []}"#;
/// let manifest = Manifest::received(None, bytes.into(), None);
/// assert_eq!(manifest.media_type().as_str(), MediaType::OCI_MANIFEST, "by the shape of the content");
/// assert_eq!(manifest.digest(), Digest::of(bytes), "spaces and line breaks count");
///
/// let view = manifest.view()?;
/// let blobs: Vec<Digest> = view.blobs().iter().map(|blob| blob.digest).collect();
/// assert_eq!(blobs, [Digest::of(b"{}")]);
/// # Ok::<(), transship::oci::ManifestError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    bytes: Bytes,
    media_type: MediaType,
    digest: Digest,
}

/// Parsed content of a manifest. The copy uses this view to find all content of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestView {
    /// The content that the manifest lists.
    pub children: Children,
    /// The manifest's `subject`, if the manifest is a referrer.
    pub subject: Option<Digest>,
    /// The kind of the artifact: `artifactType`, else the configuration's media type.
    pub artifact_type: Option<String>,
    /// The manifest's own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Content that a manifest lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Children {
    /// The blobs of an image or artifact: a configuration and layers.
    Blobs {
        /// The configuration. An artifact manifest has no configuration.
        config: Option<Descriptor>,
        /// The layers, or the blobs of an artifact manifest, in order. A digest can occur twice.
        layers: Vec<Descriptor>,
    },
    /// The children of an index or manifest list: manifests and nested indexes. Some tools also list blobs, for example
    /// BuildKit's cache. [`Descriptor::kind`] distinguishes blobs from manifests.
    Manifests(Vec<Descriptor>),
}

/// Reason why bytes are not a manifest that can be copied.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A Docker manifest of schema 1.
    #[error("a Docker manifest of schema 1 is not copied: push the image again with a current client")]
    Schema1,
    /// A manifest of an unknown type.
    #[error("the media type {0} is not a manifest that can be copied")]
    MediaType(MediaType),
    /// Bytes that are not JSON, or whose properties do not match the media type.
    #[error("not a valid {media_type}: {reason}")]
    Malformed {
        /// The media type that the content claims.
        media_type: MediaType,
        /// The problem, in words.
        reason: String,
    },
    /// More children than [`MAX_CHILDREN`].
    #[error("the index lists {0} manifests, more than the maximum of {MAX_CHILDREN}")]
    TooManyChildren(usize),
}

impl Manifest {
    /// Creates a manifest of `media_type` with the SHA-256 digest of `bytes`.
    #[must_use]
    pub fn new(media_type: MediaType, bytes: Bytes) -> Self {
        let digest = Digest::of(&bytes);
        Self { bytes, media_type, digest }
    }

    /// Creates a manifest from the response of a registry. If the client requested a digest, `wanted` is this digest.
    /// The manifest's digest then has the algorithm of `wanted`, and the caller must compare [`Manifest::digest`] with
    /// `wanted`. If `wanted` is `None`, the manifest's digest is SHA-256.
    ///
    /// The media type is the first of these types that applies:
    /// 1. the type that the bytes state, if this type is a manifest type;
    /// 2. `stated` (the `Content-Type`), if this type is a manifest type that the JSON properties do not contradict;
    /// 3. the type that the JSON properties imply.
    #[must_use]
    pub fn received(stated: Option<&MediaType>, bytes: Bytes, wanted: Option<&Digest>) -> Self {
        let media_type = type_of(stated, &bytes).unwrap_or_else(|| MediaType::new(""));
        let digest = wanted.map_or_else(|| Digest::of(&bytes), |wanted| wanted.same_algorithm_of(&bytes));
        Self { bytes, media_type, digest }
    }

    /// Returns the bytes exactly as received.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the media type of the manifest, for the `Content-Type` header of a push and for descriptors.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns a descriptor with the media type, digest and size of the manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }

    /// Returns the bytes as JSON, without the byte order mark that some tools write first.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        without_mark(&self.bytes)
    }

    /// Parses the manifest. Absent and null lists are empty.
    ///
    /// # Errors
    /// [`ManifestError`] for schema 1, an unknown type, a malformed body, a body whose shape does not match its type,
    /// or too many children.
    pub fn view(&self) -> Result<ManifestView, ManifestError> {
        if self.media_type.is_schema_1() {
            return Err(ManifestError::Schema1);
        }
        let document = Document::parse(&self.bytes).map_err(|error| self.malformed(error.to_string()))?;
        if document.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        if !self.media_type.is_manifest() {
            return Err(ManifestError::MediaType(self.media_type.clone()));
        }
        self.check_shape(&document)?;
        let Document { artifact_type, config, layers, blobs, manifests, subject, annotations, .. } = document;
        let subject = subject.map(|subject| subject.digest);
        if self.media_type.is_index() {
            let manifests = manifests.unwrap_or_default();
            if manifests.len() > MAX_CHILDREN {
                return Err(ManifestError::TooManyChildren(manifests.len()));
            }
            let manifests = manifests.into_iter().map(descriptor).collect();
            return Ok(ManifestView { children: Children::Manifests(manifests), subject, artifact_type, annotations });
        }
        let config = config.map(descriptor);
        let layers = if self.media_type.is_artifact() { blobs } else { layers }.unwrap_or_default();
        let layers = layers.into_iter().map(descriptor).collect();
        let config_type = || config.as_ref().map(|config| config.media_type.to_string());
        let artifact_type = artifact_type.filter(|kind| !kind.is_empty()).or_else(config_type);
        Ok(ManifestView { children: Children::Blobs { config, layers }, subject, artifact_type, annotations })
    }

    /// Rejects a body that has only the parts of another manifest type, and a body without any property of a manifest.
    /// Otherwise a caller would treat the empty lists of such a body as complete.
    fn check_shape(&self, document: &Document) -> Result<(), ManifestError> {
        let Document { schema_version, config, layers, blobs, manifests, .. } = document;
        let lists_manifests = manifests.as_ref().is_some_and(|list| !list.is_empty());
        let has_blobs = config.is_some() || [layers, blobs].into_iter().flatten().any(|list| !list.is_empty());
        if self.media_type.is_index() && has_blobs && !lists_manifests {
            return Err(self.malformed("the body has layers or a configuration and lists no manifests".to_owned()));
        }
        if !self.media_type.is_index() && lists_manifests && !has_blobs {
            return Err(self.malformed("the body lists manifests and has no layers".to_owned()));
        }
        let has_parts = config.is_some() || layers.is_some() || blobs.is_some() || manifests.is_some();
        if schema_version.is_none() && document.stated_type().is_none() && !has_parts {
            return Err(self.malformed("the body has no property of a manifest".to_owned()));
        }
        Ok(())
    }

    fn malformed(&self, reason: String) -> ManifestError {
        ManifestError::Malformed { media_type: self.media_type.clone(), reason }
    }
}

/// Converts a descriptor. An absent or invalid size becomes 0. The copy then requests the length from the source.
fn descriptor(raw: RawDescriptor) -> Descriptor {
    Descriptor {
        media_type: MediaType::new(raw.media_type.as_deref().unwrap_or_default()),
        digest: raw.digest,
        size: if let RawSize::Bytes(size) = raw.size { size } else { 0 },
        platform: raw.platform,
        artifact_type: raw.artifact_type,
        annotations: raw.annotations,
        has_urls: raw.has_urls,
    }
}

/// Returns the media type of a body, by the rules of [`Manifest::received`].
fn type_of(stated: Option<&MediaType>, bytes: &[u8]) -> Option<MediaType> {
    let is_known = |media_type: &MediaType| media_type.is_manifest() || media_type.is_schema_1();
    let Ok(document) = Document::parse(bytes) else { return stated.cloned() };
    let own = document.stated_type().map(MediaType::new);
    if let Some(own) = own.as_ref().filter(|own| is_known(own)) {
        return Some(own.clone());
    }
    let shown = shape_of(&document).map(MediaType::new);
    if let Some(stated) = stated.filter(|stated| is_known(stated)) {
        let contradicts =
            |shown: &MediaType| shown.is_schema_1() != stated.is_schema_1() || shown.is_index() != stated.is_index();
        return Some(shown.filter(contradicts).unwrap_or_else(|| stated.clone()));
    }
    own.or(shown).or_else(|| stated.cloned())
}

/// Returns the media type that the properties of a body imply.
fn shape_of(document: &Document) -> Option<&'static str> {
    match document {
        Document { schema_version: Some(1), .. } => Some("application/vnd.docker.distribution.manifest.v1+json"),
        Document { config: None, layers: None, manifests: Some(_), .. } => Some(MediaType::OCI_INDEX),
        Document { manifests: None, config: Some(_), .. } | Document { manifests: None, layers: Some(_), .. } => {
            Some(MediaType::OCI_MANIFEST)
        }
        _ => None,
    }
}

impl ManifestView {
    /// Returns every blob that the manifest lists directly: first the configuration, then the layers. For an index,
    /// returns the blobs in its list.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        match &self.children {
            Children::Blobs { config, layers } => config.iter().chain(layers).collect(),
            Children::Manifests(listed) => listed.iter().filter(|child| child.kind() == ContentKind::Blob).collect(),
        }
    }

    /// Returns the children of an index whose media type is a manifest type or unknown. A child of an unknown type can
    /// be a manifest or a blob.
    #[must_use]
    pub fn manifests(&self) -> Vec<&Descriptor> {
        match &self.children {
            Children::Blobs { .. } => Vec::new(),
            Children::Manifests(listed) => listed.iter().filter(|child| child.kind() != ContentKind::Blob).collect(),
        }
    }
}
