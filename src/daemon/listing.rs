//! The tags of a source repository that an entry may choose from.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::oci::{Digest, Tag};
use crate::plan::Selection;
use crate::store::{Source, StoreError, TagEntry};

/// The tags that there are, or that are asked for by name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// With the digest where the listing told it.
    pub(super) tags: BTreeMap<Tag, Option<Digest>>,
    /// Names that are no tags.
    pub(super) unusable: Vec<String>,
    /// Whether this is what the source has. `false` where nothing was listed because the entry names its tags.
    pub(super) is_complete: bool,
}

/// Lists the tags of a source. An entry that names its tags one by one needs no list.
pub(super) async fn list(source: &dyn Source, selection: &Selection) -> Result<Listing, StoreError> {
    if let Some(literals) = selection.literals() {
        let tags = literals.into_iter().map(|tag| (tag.clone(), None)).collect();
        return Ok(Listing { tags, ..Listing::default() });
    }
    let mut listing = Listing { is_complete: true, ..Listing::default() };
    let mut entries = source.tags();
    while let Some(entry) = entries.next().await {
        match entry? {
            TagEntry::Tag(tag, digest) | TagEntry::Locked(tag, digest) => {
                listing.tags.insert(tag, digest);
            }
            TagEntry::Unusable(name) => listing.unusable.push(name),
        }
    }
    Ok(listing)
}

/// The tags alone.
pub(super) fn names(listing: &Listing) -> Vec<Tag> {
    listing.tags.keys().cloned().collect()
}
