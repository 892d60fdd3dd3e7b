//! Descriptors (image-spec, "Content Descriptors"): the entries by which a manifest lists its content.

use std::collections::BTreeMap;

use super::{ContentKind, Digest, MediaType, Platform};

/// Type, digest and size of some content. The optional properties come from the manifest or list that contains the
/// descriptor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Descriptor {
    /// The content's media type.
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// The platform of a child of an index. `None` if the index states no platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact type of a referrer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations that the list of referrers states for a referrer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// True if the manifest lists download addresses for the content (`urls`).
    #[serde(skip)]
    pub has_urls: bool,
}

impl Descriptor {
    /// Creates a descriptor with only the three required properties.
    #[must_use]
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            has_urls: false,
        }
    }

    /// Returns the kind of the content according to its media type.
    #[must_use]
    pub fn kind(&self) -> ContentKind {
        self.media_type.kind()
    }

    /// Returns true for a foreign layer: a layer of a non-distributable type with download addresses (`urls`). Without
    /// addresses, clients can read the layer only from the registry, so the layer is not foreign.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.has_urls && self.media_type.is_nondistributable()
    }
}
