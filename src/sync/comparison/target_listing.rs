//! State of the tags at a target before the sync, read from one list of the tags.
//!
//! A list needs one request per page, but can save requests for single tags. After the listing, the run compares a tag
//! without a request in these cases:
//! - The list does not contain the tag.
//! - The list contains the tag with its digest.
//!
//! A run for pushed tags never lists the target. All other runs list the target in these cases:
//! - No earlier run of the entry has compared tags at the target.
//! - The list of the target probably contains digests.
//!
//! If a run does not list the target, the run requests each tag with one HEAD.

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt as _;

use crate::copy::Contents;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::store::{ErrorKind, Source, StoreError, TagEntry, Target};
use crate::sync::context::run::Run;

#[derive(Debug, Default)]
pub(crate) struct TargetState {
    /// All tags of the target, each with its digest if the list contains the digest. `None` if the target was not
    /// listed.
    tags: Option<BTreeMap<Tag, Option<Digest>>>,
    /// Tags that the list marks as locked. The registry refuses each write to a locked tag.
    locked: HashSet<Tag>,
    /// Contents of the target before this run: nothing, or unknown.
    pub(crate) contents: Contents,
}

/// State of a tag at a target, according to a list. The state is a hint: the list may be outdated or may omit tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagState {
    Absent,
    Present(Digest),
    /// The state is unknown, so the run must request the tag.
    Unknown,
}

impl TargetState {
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

    /// Returns true if the list marks the tag as locked.
    pub(crate) fn is_locked(&self, reference: &ManifestRef) -> bool {
        matches!(reference, ManifestRef::Tag(tag) if self.locked.contains(tag))
    }
}

/// If a list of the target's tags can save requests, lists the target and returns the state from the list. If the
/// function does not list the target, or the listing fails, the state of each tag is unknown.
///
/// `source_listed` completes after the listing of the source. This listing shows whether lists of the source contain
/// digests. If lists of the source or of the target contain digests, the function expects digests in the list of the
/// target. If the function can decide without the listing of the source, the function does not wait for
/// `source_listed`.
pub(crate) async fn query_target_state(
    run: &Run<'_>,
    source: &dyn Source,
    target: &dyn Target,
    source_listed: impl Future<Output = ()>,
) -> TargetState {
    if run.request.only.is_some() {
        // A run for pushed tags has few tags, so one request for each tag is cheaper than a list.
        return TargetState::default();
    }
    let history = read_target_history(run, source.place(), target.place()).await;
    let lists_digests = || target.lists_digests() || source.lists_digests();
    if history.has_compared && !lists_digests() {
        source_listed.await;
        if !lists_digests() {
            return TargetState::default();
        }
    }
    match list_target_tags(target).await {
        Ok((tags, locked)) => {
            let is_empty = tags.is_empty() && history.nothing_sent;
            let contents = if is_empty { Contents::Nothing } else { Contents::Unknown };
            TargetState { tags: Some(tags), locked, contents }
        }
        Err(error) => {
            tracing::debug!(%error, "cannot list the target: each tag is queried");
            TargetState::default()
        }
    }
}

/// Records of the earlier runs at a target, from the journal.
struct TargetHistory {
    /// True if a run of this entry has compared tags at the target.
    has_compared: bool,
    /// True if no run has started to send anything to the target. If the list of the target's tags is empty too, the
    /// run treats the target as empty.
    nothing_sent: bool,
}

async fn read_target_history(run: &Run<'_>, source: &str, target: &str) -> TargetHistory {
    let no_history = TargetHistory { has_compared: false, nothing_sent: false };
    let Some(journal) = &run.engine.journal else { return no_history };
    let entry = run.request.entry.name.as_str();
    match journal.find_earlier_work(entry, source, target).await {
        Ok((has_compared, sent)) => TargetHistory { has_compared, nothing_sent: !sent },
        Err(error) => {
            tracing::warn!(%error, "cannot query the journal: querying the target instead");
            no_history
        }
    }
}

/// All listed tags, each with its digest if the list contains the digest; and the set of the locked tags.
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
