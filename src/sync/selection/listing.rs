//! List of the tags of a source repository. The selection of an entry chooses from this list.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use super::near_tags::NearTags;
use crate::oci::{Digest, Tag};
use crate::plan::{Selected, Selection};
use crate::store::{Source, StoreError, TagEntry};

/// Maximum number of log lines about names that are not valid tags.
const MAX_NAMED_UNUSABLE: usize = 20;

/// Tags that a source has, or that an entry requests by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The tags, each with its digest if the listing contained the digest.
    pub(crate) tags: BTreeMap<Tag, Option<Digest>>,
    /// The listed names that are not valid tags.
    pub(crate) unusable: Vec<String>,
    /// Messages about content without a tag. Each message says how the user can select the content.
    pub(crate) skipped: Vec<String>,
    /// True if the source was listed, so that `tags` are all tags of the source. False if `tags` are the tags that the
    /// entry names.
    pub(crate) is_complete: bool,
    /// Tags for suggestions in error messages, if the source does not have a requested tag.
    pub(crate) near_tags: NearTags,
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
    /// Logs the names that are not valid tags, and the content without a tag.
    pub(crate) fn warn_of_skipped(&self, source: &str) {
        for name in self.unusable.iter().take(MAX_NAMED_UNUSABLE) {
            tracing::warn!(source, name, "skipped a name that is not a valid tag");
        }
        if let Some(more) = self.unusable.len().checked_sub(MAX_NAMED_UNUSABLE).filter(|more| *more > 0) {
            tracing::warn!(source, more, "skipped further names that are not valid tags");
        }
        for what in &self.skipped {
            tracing::warn!(source, "skipped: {what}");
        }
    }

    /// Returns an error message if the source has content but no valid tag, and the entry selects no digest. In this
    /// case, the run would copy nothing.
    pub(crate) fn untagged_error(&self, source: &str, selected: &Selected) -> Option<String> {
        let skipped_count = self.unusable.len() + self.skipped.len();
        let is_untagged = self.tags.is_empty() && selected.digests.is_empty() && skipped_count > 0;
        is_untagged.then(|| {
            let first = self.skipped.first().map(|what| format!(": {what}")).unwrap_or_default();
            format!("source {source}: the source has content but no tag, so nothing was selected{first}")
        })
    }
}

/// Returns the tags of a listing without their digests.
pub(crate) fn tag_names(listing: &Listing) -> Vec<Tag> {
    listing.tags.keys().cloned().collect()
}
