//! What a tag or digest stands for at both sides, and what is to happen. Asks, changes nothing.

use std::collections::BTreeMap;

use super::TagOutcome;
use super::listing::Listing;
use super::target_listing::TagState;
use crate::config::Entry;
use crate::oci::{Digest, ManifestRef, SignatureTag, Tag};
use crate::plan::{Action, Overwrite, decide};
use crate::store::{ErrorKind, Side, Source, Step, StoreError, Target};

/// Tags that more than one entry claims, by target place, with the entries.
pub(crate) type Contested = BTreeMap<(String, Tag), Vec<String>>;

/// What the source has: from the listing where that told it, else by one HEAD.
pub(crate) async fn source_digest(
    source: &dyn Source,
    listing: &Listing,
    reference: &ManifestRef,
) -> Result<Digest, TagOutcome> {
    let known = match reference {
        ManifestRef::Tag(tag) => listing.tags.get(tag).copied().flatten(),
        ManifestRef::Digest(digest) => Some(*digest),
    };
    if let Some(digest) = known {
        return Ok(digest);
    }
    match source.resolve(reference).await {
        Ok(Some(descriptor)) => Ok(descriptor.digest),
        Ok(None) => {
            let detail = "there is no such tag";
            let error = StoreError::new(source.place(), Step::Resolve, reference, ErrorKind::NotFound, detail);
            Err(TagOutcome::failed_at(Side::Source, &error))
        }
        Err(error) => Err(TagOutcome::failed_at(Side::Source, &error)),
    }
}

/// The rule for what a tag stood for before. A signature that goes with its image is not bound by the entry's: its tag moves
/// when a signature is added.
pub(crate) fn overwrite(entry: &Entry, reference: &ManifestRef) -> Overwrite {
    match reference {
        ManifestRef::Tag(tag)
            if entry.referrers && matches!(SignatureTag::read(tag), Some(SignatureTag::Cosign(_))) =>
        {
            Overwrite::Always
        }
        _ => entry.overwrite,
    }
}

/// What one target has; it is asked unless that is known, or nothing would be done with the answer. Where reading is denied it
/// is not known: some registries deny reads of a repository that the first push would make. Then the push is tried, whose own
/// answer decides, unless a rule depends on what the tag stands for now.
pub(crate) async fn target_digest(
    target: &dyn Target,
    known: TagState,
    reference: &ManifestRef,
    contested: &Contested,
    overwrite: Overwrite,
) -> Result<Option<Digest>, TagOutcome> {
    if let ManifestRef::Tag(tag) = reference
        && let Some(entries) = contested.get(&(target.place().to_owned(), tag.clone()))
    {
        return Err(TagOutcome::Contested { entries: entries.clone() });
    }
    match known {
        TagState::Absent => Ok(None),
        TagState::Present(digest) => Ok(Some(digest)),
        TagState::Unknown => match target.resolve(reference).await {
            Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
            Err(error) if error.kind == ErrorKind::Denied && overwrite == Overwrite::Always => {
                tracing::debug!(%error, "what the target has may not be read: the push is tried");
                Ok(None)
            }
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        },
    }
}

/// What a target has, where a rule binds what may be overwritten there. What a list told of a tag, and that it lacks one, is a hint
/// (distribution leaves tags out, distribution#4891): the tag is asked for before it would be written.
pub(crate) async fn sure_digest(
    target: &dyn Target,
    reference: &ManifestRef,
    (known, told): (TagState, Option<Digest>),
    wanted: Digest,
    overwrite: Overwrite,
) -> Result<Option<Digest>, TagOutcome> {
    let is_hint = known != TagState::Unknown && matches!(reference, ManifestRef::Tag(_));
    if overwrite == Overwrite::Always || !is_hint || told == Some(wanted) {
        return Ok(told);
    }
    match target.resolve(reference).await {
        Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
        Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
    }
}

/// What is to happen at a target that has this.
pub(crate) fn compare(reference: &ManifestRef, wanted: Digest, there: Option<Digest>, overwrite: Overwrite) -> Action {
    match reference {
        ManifestRef::Tag(tag) => decide(tag, wanted, there, overwrite),
        ManifestRef::Digest(_) if there == Some(wanted) => Action::Keep,
        ManifestRef::Digest(_) => Action::Copy,
    }
}
