//! Descriptors (image-spec, "Content Descriptors"): what a manifest says of the content it points at.

use std::collections::BTreeMap;

use super::{ContentKind, Digest, MediaType, Platform};

/// The type, digest and size of some content, and what the manifest that lists it adds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Descriptor {
    /// The content's media type.
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// For a child of an index: what it runs on. `None` where the index does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// For a referrer: what kind of artifact it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// For a referrer: the annotations that its list repeats from its manifest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether the manifest lists addresses of its own for the content (`urls`).
    #[serde(skip)]
    pub has_urls: bool,
}

impl Descriptor {
    /// A descriptor with nothing but the three required properties.
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

    /// The kind of the content, as far as its media type tells.
    #[must_use]
    pub fn kind(&self) -> ContentKind {
        self.media_type.kind()
    }

    /// Whether this is a foreign layer: one of a non-distributable type that can be had at addresses of its own. Without
    /// addresses (`urls`) its registry is the only place where it is.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.has_urls && self.media_type.is_nondistributable()
    }
}
