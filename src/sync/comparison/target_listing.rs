//! State of a target that is known before its tags are requested one by one.
//!
//! If earlier runs have compared tags at the target, the run requests each tag: one HEAD, and nothing else for an
//! unchanged tag. Two kinds of runs list the target first: a run that is new at the target, and a run at a target whose
//! list states digests. A list needs one request per page. The run then sends no request for a tag that is not in the
//! list, or whose digest the list states.

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt as _;

use crate::copy::Contents;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::store::{ErrorKind, Source, StoreError, TagEntry, Target};
use crate::sync::context::run::Run;

/// Known state of one target.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    /// Complete list of tags, with the digests that it stated; `None` if there is no list.
    tags: Option<BTreeMap<Tag, Option<Digest>>>,
    /// Tags that nobody may write, according to the list.
    locked: HashSet<Tag>,
    pub(crate) contents: Contents,
}

/// Known state of a tag at a target. State from a list is a hint: lists lag, and some omit tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagState {
    /// The target does not have the tag.
    Absent,
    /// The target has the tag with this digest.
    Present(Digest),
    /// The tag must be requested.
    Unknown,
}

impl TargetState {
    /// Returns the known state of a tag or digest.
    pub(crate) fn tag_state(&self, reference: &ManifestRef) -> TagState {
        match (reference, &self.tags) {
            (ManifestRef::Digest(_), _) if self.contents == Contents::Nothing => TagState::Absent,
            (ManifestRef::Tag(tag), Some(tags)) => match tags.get(tag) {
                None => TagState::Absent,
                Some(Some(digest)) => TagState::Present(*digest),
                Some(None) => TagState::Unknown,
            },
            _ => TagState::Unknown,
        }
    }

    /// Returns true if nobody may write this tag, according to the list.
    pub(crate) fn is_locked(&self, reference: &ManifestRef) -> bool {
        matches!(reference, ManifestRef::Tag(tag) if self.locked.contains(tag))
    }
}

/// Lists a target if the list saves requests. A target of the same kind as a source whose list states digests may also
/// state digests. If that is the only reason to list the target, this function waits for `source_listed`. If the target
/// cannot be listed, no state of it is known.
pub(crate) async fn query_target_state(
    run: &Run<'_>,
    source: &dyn Source,
    target: &dyn Target,
    source_listed: impl Future<Output = ()>,
) -> TargetState {
    if run.request.only.is_some() {
        // There are few tags, and each needs one request.
        return TargetState::default();
    }
    let past = read_target_history(run, source.place(), target.place()).await;
    let lists_digests = || target.lists_digests() || source.lists_digests();
    if past.seen && !lists_digests() {
        source_listed.await;
        if !lists_digests() {
            return TargetState::default();
        }
    }
    match list_target_tags(target).await {
        Ok((tags, locked)) => {
            let is_nothing = tags.is_empty() && past.untouched;
            let contents = if is_nothing { Contents::Nothing } else { Contents::Unknown };
            TargetState { tags: Some(tags), locked, contents }
        }
        Err(error) => {
            tracing::debug!(%error, "cannot list the target: each tag is queried");
            TargetState::default()
        }
    }
}

/// State of a target in the journal.
struct TargetHistory {
    /// True if a run of this entry has compared tags here.
    seen: bool,
    /// True if no run has started to send anything here. An empty list then means that there are no blobs either, not
    /// even of an interrupted run.
    untouched: bool,
}

async fn read_target_history(run: &Run<'_>, source: &str, target: &str) -> TargetHistory {
    let nothing = TargetHistory { seen: false, untouched: false };
    let Some(journal) = &run.engine.journal else { return nothing };
    let entry = run.request.entry.name.as_str();
    match journal.has_been_at(entry, source, target).await {
        Ok((seen, sent)) => TargetHistory { seen, untouched: !sent },
        Err(error) => {
            tracing::warn!(%error, "cannot query the journal: the target is queried instead");
            nothing
        }
    }
}

/// Tags with the digests that the list states, and the tags that are locked.
type TargetTags = (BTreeMap<Tag, Option<Digest>>, HashSet<Tag>);

async fn list_target_tags(target: &dyn Target) -> Result<TargetTags, StoreError> {
    let (mut tags, mut locked) = (BTreeMap::new(), HashSet::new());
    let mut entries = target.tags();
    while let Some(entry) = entries.next().await {
        match entry {
            Ok(TagEntry::Tag(tag, digest)) => {
                tags.insert(tag, digest);
            }
            Ok(TagEntry::Locked(tag, digest)) => {
                tags.insert(tag.clone(), digest);
                locked.insert(tag);
            }
            Ok(TagEntry::Unusable(_) | TagEntry::Skipped(_)) => {}
            Err(error) if error.kind == ErrorKind::NotFound && tags.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok((tags, locked))
}
