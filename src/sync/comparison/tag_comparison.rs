//! Comparison of a tag or digest at the source and at the targets, and the resulting action. The requests of this
//! module change nothing.

use super::conflicts::Conflicts;
use super::target_listing::TagState;
use crate::config::Entry;
use crate::oci::{Digest, ManifestRef, SignatureTag};
use crate::plan::{Action, Overwrite, decide};
use crate::store::{ErrorKind, Side, Source, Step, StoreError, Target};
use crate::sync::TagOutcome;
use crate::sync::selection::listing::Listing;

/// Returns the digest of a reference at the source. The listing may contain the digest of a tag; otherwise one HEAD
/// request is sent.
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
            let near = match reference {
                ManifestRef::Tag(tag) => listing.near_tags.describe_near(source, tag).await,
                ManifestRef::Digest(_) => String::new(),
            };
            let detail = format!("there is no such tag{near}");
            let error = StoreError::new(source.place(), Step::Resolve, reference, ErrorKind::NotFound, detail);
            Err(TagOutcome::failed_at(Side::Source, &error))
        }
        Err(error) => Err(TagOutcome::failed_at(Side::Source, &error)),
    }
}

/// Returns the overwrite rule of a tag at the target, or of a digest: the rule of the entry, or `always` for a cosign
/// signature of an entry that copies referrers. Each further signature of an image overwrites the same tag, so a
/// stricter rule would block the further signatures.
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

/// Returns the digest of a reference at one target; `None` if the target does not have it. A request is sent only if
/// `known` does not contain the answer, and only if the tag is not in conflict with another entry.
///
/// If the target denies the read and the overwrite rule is `always`, the function returns `None`, so that the run tries
/// to push. Some registries deny reads of a repository that the first push would create: the response to the push then
/// decides. With any other overwrite rule the denial is an error, because the rule depends on the present digest.
/// [`target_failure`] names the remedy.
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
            Err(error) => Err(target_failure(error, overwrite)),
        },
    }
}

/// Returns the outcome of a tag whose digest at the target cannot be read. If the target denies the read, the overwrite
/// rule cannot be applied, and the message names the way to write the tag nevertheless.
pub(crate) fn target_failure(mut error: StoreError, overwrite: Overwrite) -> TagOutcome {
    let remedy = match overwrite {
        Overwrite::Always => None,
        Overwrite::Unforced => Some("--force writes without reading the present tag".to_owned()),
        rule => Some(format!("`overwrite: always` does not need to read the present tag, unlike `{rule}`")),
    };
    if let (ErrorKind::Denied, Some(remedy)) = (error.kind, remedy) {
        error.detail.push_str("; if only reads are denied, ");
        error.detail.push_str(&remedy);
    }
    TagOutcome::failed_at(Side::Target, &error)
}

/// Returns the digest of a reference at a target, confirmed by a request if the overwrite rule depends on the digest.
///
/// `known` is the state from the list of the target, and `reported` the digest found so far. A list is only a hint: its
/// digests may be outdated, and it may omit tags (distribution#4891). So the tag itself is requested before a run
/// writes the tag under a restricting rule.
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
        Err(error) => Err(target_failure(error, overwrite)),
    }
}

/// Decides the action for a reference at a target. `wanted` is the digest that the target should have, and `present`
/// the digest that the target has.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_read_names_the_way_to_write_nevertheless() {
        let message = |kind, overwrite| {
            let error = StoreError::new("h.example/app", Step::Resolve, "v1", kind, "403 Forbidden");
            let TagOutcome::Failed { message, .. } = target_failure(error, overwrite) else { panic!() };
            message.split_once("403 Forbidden").unwrap().1.to_owned()
        };
        assert_eq!(
            message(ErrorKind::Denied, Overwrite::Unforced),
            "; if only reads are denied, --force writes without reading the present tag"
        );
        assert_eq!(
            message(ErrorKind::Denied, Overwrite::Never),
            "; if only reads are denied, `overwrite: always` does not need to read the present tag, unlike `never`"
        );
        assert_eq!(message(ErrorKind::Denied, Overwrite::Always), "");
        assert_eq!(message(ErrorKind::Unavailable, Overwrite::Unforced), "");
    }
}
