//! Manifests: the bytes as they came, which alone are ever sent on, and a parsed view to walk by.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::document::{Document, RawDescriptor, RawSize, without_mark};
use super::{ContentKind, Descriptor, Digest, MediaType};

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
        /// The configuration. An artifact manifest has none.
        config: Option<Descriptor>,
        /// The layers, or the blobs of an artifact manifest, in order. A digest may stand in it twice.
        layers: Vec<Descriptor>,
    },
    /// An index or manifest list: other manifests, which may be indexes again. Some tools list blobs as well (BuildKit's
    /// cache): [`Descriptor::kind`] tells them apart.
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

impl Manifest {
    /// Takes `bytes` as a manifest of `media_type`, with the SHA-256 digest of the bytes.
    #[must_use]
    pub fn new(media_type: MediaType, bytes: Bytes) -> Self {
        let digest = Digest::of(&bytes);
        Self { bytes, media_type, digest }
    }

    /// Takes `bytes` as what was asked for by `wanted`, under the same algorithm.
    ///
    /// The type is the one that the bytes state of themselves where that names a manifest, else `stated` (the `Content-Type`)
    /// where that does and the shape of the bytes does not contradict it, else what their shape shows. The caller compares
    /// [`Manifest::digest`] with `wanted`.
    #[must_use]
    pub fn received(stated: Option<&MediaType>, bytes: Bytes, wanted: Option<&Digest>) -> Self {
        let media_type = type_of(stated, &bytes).unwrap_or_else(|| MediaType::new(""));
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

    /// The bytes as JSON: without the byte order mark that some tools write before it.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        without_mark(&self.bytes)
    }

    /// Reads what the manifest says. Absent and null lists are empty.
    ///
    /// # Errors
    /// [`ManifestError`] for schema 1, an unknown type, a malformed body, a body of another shape than its type, too many
    /// children.
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
        let of_config = || config.as_ref().map(|config| config.media_type.to_string());
        let artifact_type = artifact_type.filter(|kind| !kind.is_empty()).or_else(of_config);
        Ok(ManifestView { children: Children::Blobs { config, layers }, subject, artifact_type, annotations })
    }

    /// Refuses a body that has the parts of another type of manifest and none of its own, or no sign of a manifest at all:
    /// its empty lists would be taken for all that there is.
    fn check_shape(&self, document: &Document) -> Result<(), ManifestError> {
        let Document { schema_version, config, layers, blobs, manifests, .. } = document;
        let lists_manifests = manifests.as_ref().is_some_and(|list| !list.is_empty());
        let has_blobs = config.is_some() || [layers, blobs].into_iter().flatten().any(|list| !list.is_empty());
        if self.media_type.is_index() && has_blobs && !lists_manifests {
            return Err(self.malformed("it has layers or a configuration and lists no manifests".to_owned()));
        }
        if !self.media_type.is_index() && lists_manifests && !has_blobs {
            return Err(self.malformed("it lists manifests and has no layers".to_owned()));
        }
        let has_parts = config.is_some() || layers.is_some() || blobs.is_some() || manifests.is_some();
        if schema_version.is_none() && document.stated_type().is_none() && !has_parts {
            return Err(self.malformed("nothing in it is of a manifest".to_owned()));
        }
        Ok(())
    }

    fn malformed(&self, reason: String) -> ManifestError {
        ManifestError::Malformed { media_type: self.media_type.clone(), reason }
    }
}

/// A descriptor. A size that is absent or no size becomes 0: the digest decides what the content is, and whoever reads it
/// asks its source for the length.
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

/// The type of a body: see [`Manifest::received`].
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

/// The type that the parts of a body show.
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
    /// Every blob that the manifest itself points at: the configuration, then the layers; of an index what it lists of blobs.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        match &self.children {
            Children::Blobs { config, layers } => config.iter().chain(layers).collect(),
            Children::Manifests(listed) => listed.iter().filter(|child| child.kind() == ContentKind::Blob).collect(),
        }
    }

    /// Everything that an index lists but for known blobs. Of a child without a known type only its content tells whether it is
    /// a manifest.
    #[must_use]
    pub fn manifests(&self) -> Vec<&Descriptor> {
        match &self.children {
            Children::Blobs { .. } => Vec::new(),
            Children::Manifests(listed) => listed.iter().filter(|child| child.kind() != ContentKind::Blob).collect(),
        }
    }
}
