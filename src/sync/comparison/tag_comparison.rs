//! Comparison of a tag or digest at both sides, and the resulting action. Sends requests and changes nothing.

use super::conflicts::Conflicts;
use super::target_listing::TagState;
use crate::config::Entry;
use crate::oci::{Digest, ManifestRef, SignatureTag};
use crate::plan::{Action, Overwrite, decide};
use crate::store::{ErrorKind, Side, Source, Step, StoreError, Target};
use crate::sync::TagOutcome;
use crate::sync::selection::listing::Listing;

/// Returns the digest at the source: from the listing if that reported it, else by one HEAD request.
pub(crate) async fn query_source_digest(
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

/// Returns the overwrite rule of a tag or digest. The entry's rule does not apply to a signature that accompanies its
/// image: each added signature overwrites the signature's tag.
pub(crate) fn overwrite_rule(entry: &Entry, reference: &ManifestRef) -> Overwrite {
    match reference {
        ManifestRef::Tag(tag)
            if entry.referrers && matches!(SignatureTag::read(tag), Some(SignatureTag::Cosign(_))) =>
        {
            Overwrite::Always
        }
        _ => entry.overwrite,
    }
}

/// Returns the digest at one target. The digest is requested only if it is unknown, and only if the answer can lead to
/// an action.
///
/// The digest stays unknown if the target denies reads: some registries deny reads of a repository that the first push
/// would create. Then the run tries the push, whose own response decides, unless a rule depends on the tag's present
/// digest.
pub(crate) async fn query_target_digest(
    target: &dyn Target,
    known: TagState,
    reference: &ManifestRef,
    conflicts: &Conflicts,
    overwrite: Overwrite,
) -> Result<Option<Digest>, TagOutcome> {
    if let ManifestRef::Tag(tag) = reference
        && let Some(entries) = conflicts.get(&(target.place().to_owned(), tag.clone()))
    {
        return Err(TagOutcome::Conflict { entries: entries.clone() });
    }
    match known {
        TagState::Absent => Ok(None),
        TagState::Present(digest) => Ok(Some(digest)),
        TagState::Unknown => match target.resolve(reference).await {
            Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
            Err(error) if error.kind == ErrorKind::Denied && overwrite == Overwrite::Always => {
                tracing::debug!(%error, "the target denies reads: the push is tried");
                Ok(None)
            }
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        },
    }
}

/// Returns the digest at a target if a rule restricts overwriting.
///
/// A list is a hint, in the digests that it reports and in the tags that it lacks: distribution omits tags
/// (distribution#4891). The tag itself is requested before it would be written.
pub(crate) async fn confirm_target_digest(
    target: &dyn Target,
    reference: &ManifestRef,
    (known, reported): (TagState, Option<Digest>),
    wanted: Digest,
    overwrite: Overwrite,
) -> Result<Option<Digest>, TagOutcome> {
    let is_hint = known != TagState::Unknown && matches!(reference, ManifestRef::Tag(_));
    if overwrite == Overwrite::Always || !is_hint || reported == Some(wanted) {
        return Ok(reported);
    }
    match target.resolve(reference).await {
        Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
        Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
    }
}

/// Decides the action at a target that has the digest `present`.
pub(crate) fn decide_action(
    reference: &ManifestRef,
    wanted: Digest,
    present: Option<Digest>,
    overwrite: Overwrite,
) -> Action {
    match reference {
        ManifestRef::Tag(tag) => decide(tag, wanted, present, overwrite),
        ManifestRef::Digest(_) if present == Some(wanted) => Action::Unchanged,
        ManifestRef::Digest(_) => Action::Copy,
    }
}
