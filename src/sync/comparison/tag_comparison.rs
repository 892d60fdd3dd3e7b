//! Queries for a tag or digest at the source and at the targets, and the choice of the action, such as copy or block.
//! The queries change nothing at the registries.

use super::conflicts::Conflicts;
use super::target_listing::TagState;
use crate::config::Entry;
use crate::oci::{Digest, ManifestRef, SignatureTag};
use crate::plan::{Action, Overwrite, decide};
use crate::store::{ErrorKind, Side, Source, Step, StoreError, Target};
use crate::sync::TagOutcome;
use crate::sync::selection::listing::Listing;

/// Returns the digest of a reference at the source. If the reference is a digest, or if `listing` contains the digest
/// of the tag, sends no request. Otherwise sends one HEAD request. If the request fails, or the source does not have
/// the tag, returns the outcome of the failure.
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

/// Returns the overwrite rule for a reference. If the entry copies referrers and the tag is a tag of cosign, such as
/// `sha256-<hex>.sig`, the rule is `always`. Otherwise the rule is the rule of the entry.
///
/// Cosign stores all signatures of an image under the same tag. So a stricter rule would block each new signature.
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

/// Returns the digest of a reference at one target, or `None` if the target does not have the reference. If `conflicts`
/// contains the tag, returns [`TagOutcome::Conflict`] without a request. If `known` contains the digest or says that
/// the tag is absent, sends no request.
///
/// If the target denies the read and the overwrite rule is `always`, returns `None`, and the run tries to push. Some
/// registries deny reads of a repository that does not exist, although a push creates the repository. If the target
/// denies the read and the overwrite rule depends on the present digest, returns an error.
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

/// Returns the outcome of a tag whose digest at the target cannot be read. If the target denies the read, the message
/// names the option that writes the tag without a read: `--force` or `overwrite: always`.
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

/// Returns the digest of a reference at a target. `known` is the state from the target's list of tags, and `reported`
/// is the digest found so far.
///
/// A list can contain outdated digests and can omit tags (distribution#4891). So if the overwrite rule is not `always`
/// and the state comes from the list, requests the tag itself. If `reported` is already the wanted digest, sends no
/// request.
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

/// Decides the action for a reference at a target. `wanted` is the digest that the target should have, and `present` is
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
