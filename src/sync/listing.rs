//! The tags of a source repository that an entry may choose from.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::oci::{Digest, Tag};
use crate::plan::{Selected, Selection};
use crate::store::{Source, StoreError, TagEntry};

/// How many names that are no tags have a line each in the log.
const UNUSABLE_NAMED: usize = 20;

/// The tags that there are, or that are asked for by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// With the digest where the listing told it.
    pub(crate) tags: BTreeMap<Tag, Option<Digest>>,
    /// Names that are no tags.
    pub(crate) unusable: Vec<String>,
    /// Content that no tag names, with the way to select it.
    pub(crate) skipped: Vec<String>,
    /// Whether this is what the source has. `false` where nothing was listed because the entry names its tags.
    pub(crate) is_complete: bool,
}

/// Lists the tags of a source. An entry that names its tags one by one needs no list.
pub(crate) async fn list(source: &dyn Source, selection: &Selection) -> Result<Listing, StoreError> {
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
            TagEntry::Skipped(what) => listing.skipped.push(what),
        }
    }
    Ok(listing)
}

impl Listing {
    /// Logs what is there and cannot be selected by a tag.
    pub(crate) fn warn_of_skipped(&self, place: &str) {
        for name in self.unusable.iter().take(UNUSABLE_NAMED) {
            tracing::warn!(source = place, name, "skipped: the name is not a tag by the specification");
        }
        if let Some(more) = self.unusable.len().checked_sub(UNUSABLE_NAMED).filter(|more| *more > 0) {
            tracing::warn!(source = place, more, "skipped as well: names that are no tags by the specification");
        }
        for what in &self.skipped {
            tracing::warn!(source = place, "skipped: {what}");
        }
    }

    /// The failure of a source that has content and no tag at all. Nothing of it would arrive, unless digests are selected.
    pub(crate) fn untagged(&self, place: &str, selected: &Selected) -> Option<String> {
        let left = self.unusable.len() + self.skipped.len();
        let nothing = self.tags.is_empty() && selected.digests.is_empty() && left > 0;
        nothing.then(|| {
            let first = self.skipped.first().map(|what| format!(": {what}")).unwrap_or_default();
            format!("source {place}: it has content and no tag, so nothing was selected{first}")
        })
    }
}

/// The tags alone.
pub(crate) fn names(listing: &Listing) -> Vec<Tag> {
    listing.tags.keys().cloned().collect()
}
