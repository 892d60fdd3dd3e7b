//! Tags of a source repository from which an entry may choose.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::oci::{Digest, Tag};
use crate::plan::{Selected, Selection};
use crate::store::{Source, StoreError, TagEntry};

/// Maximum number of names that are not valid tags and have a line each in the log.
const UNUSABLE_NAMED: usize = 20;

/// Tags that a source has, or that an entry requests by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The tags, each with its digest if the listing reported it.
    pub(crate) tags: BTreeMap<Tag, Option<Digest>>,
    /// The names that are not valid tags.
    pub(crate) unusable: Vec<String>,
    /// The content that no tag names, with the way to select it.
    pub(crate) skipped: Vec<String>,
    /// True if the tags are those that the source has. False if nothing was listed because the entry names its tags.
    pub(crate) is_complete: bool,
}

/// Lists the tags of a source. Sends no request if the entry names its tags one by one.
pub(crate) async fn list_tags(source: &dyn Source, selection: &Selection) -> Result<Listing, StoreError> {
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
    /// Logs the content that no tag can select.
    pub(crate) fn warn_of_skipped(&self, place: &str) {
        for name in self.unusable.iter().take(UNUSABLE_NAMED) {
            tracing::warn!(source = place, name, "skipped a name that is not a valid tag");
        }
        if let Some(more) = self.unusable.len().checked_sub(UNUSABLE_NAMED).filter(|more| *more > 0) {
            tracing::warn!(source = place, more, "skipped further names that are not valid tags");
        }
        for what in &self.skipped {
            tracing::warn!(source = place, "skipped: {what}");
        }
    }

    /// Returns the error for a source that has content and no tag at all. None of that content would be copied, unless
    /// digests are selected.
    pub(crate) fn untagged(&self, place: &str, selected: &Selected) -> Option<String> {
        let left = self.unusable.len() + self.skipped.len();
        let nothing = self.tags.is_empty() && selected.digests.is_empty() && left > 0;
        nothing.then(|| {
            let first = self.skipped.first().map(|what| format!(": {what}")).unwrap_or_default();
            format!("source {place}: it has content and no tag, so nothing was selected{first}")
        })
    }
}

/// Returns only the tags.
pub(crate) fn tag_names(listing: &Listing) -> Vec<Tag> {
    listing.tags.keys().cloned().collect()
}
