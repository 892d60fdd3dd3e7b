//! What is known of a target before its tags are asked for one by one.
//!
//! A run that has been here before asks for each tag: one HEAD, and nothing else where nothing changed. A run that is new here,
//! or whose target's list tells digests, lists it first: one request a page, and a tag that is not in the list need not be asked
//! for, nor one whose digest the list tells.

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt as _;

use super::run::Run;
use crate::copy::Contents;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::store::{ErrorKind, Source, StoreError, TagEntry, Target};

/// What is known of one target.
#[derive(Debug, Default)]
pub(crate) struct TargetState {
    /// The whole list, with digests where it told them; `None` where there is none.
    tags: Option<BTreeMap<Tag, Option<Digest>>>,
    /// The tags that the list says nobody may write.
    locked: HashSet<Tag>,
    pub(crate) contents: Contents,
}

/// What is known of a tag at a target. Where it comes from a list it is a hint: lists lag, and some leave tags out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagState {
    /// It is not there.
    Absent,
    /// It is there, with this digest.
    Present(Digest),
    /// It must be asked for.
    Unknown,
}

impl TargetState {
    pub(crate) fn knows(&self, reference: &ManifestRef) -> TagState {
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

    /// Whether the list says that nobody may write this tag.
    pub(crate) fn is_locked(&self, reference: &ManifestRef) -> bool {
        matches!(reference, ManifestRef::Tag(tag) if self.locked.contains(tag))
    }
}

/// Lists a target if that is worth it, as soon as that is clear. One that is of the same kind as a source whose list tells
/// digests may do so too: where only that would be a reason to list it, it waits for `source_listed`. A target that cannot be
/// listed is one of which nothing is known.
pub(crate) async fn look(
    run: &Run<'_>,
    source: &dyn Source,
    target: &dyn Target,
    source_listed: impl Future<Output = ()>,
) -> TargetState {
    if run.request.only.is_some() {
        // Few tags: each costs one request.
        return TargetState::default();
    }
    let past = past(run, source.place(), target.place()).await;
    let tell_digests = || target.lists_digests() || source.lists_digests();
    if past.seen && !tell_digests() {
        source_listed.await;
        if !tell_digests() {
            return TargetState::default();
        }
    }
    match list(target).await {
        Ok((tags, locked)) => {
            let is_nothing = tags.is_empty() && past.untouched;
            let contents = if is_nothing { Contents::Nothing } else { Contents::Unknown };
            TargetState { tags: Some(tags), locked, contents }
        }
        Err(error) => {
            tracing::debug!(%error, "the target cannot be listed; each tag is asked for");
            TargetState::default()
        }
    }
}

/// What the journal knows of a target.
struct Past {
    /// A run of this entry has compared tags here.
    seen: bool,
    /// No run has begun to send anything here: an empty list then means that there are no blobs either, not even of a run
    /// that was cut off.
    untouched: bool,
}

async fn past(run: &Run<'_>, source: &str, target: &str) -> Past {
    let nothing = Past { seen: false, untouched: false };
    let Some(journal) = &run.engine.journal else { return nothing };
    let entry = run.request.entry.name.as_str();
    match journal.has_been_at(entry, source, target).await {
        Ok((seen, sent)) => Past { seen, untouched: !sent },
        Err(error) => {
            tracing::warn!(%error, "the journal could not be asked; the target is");
            nothing
        }
    }
}

/// The tags with the digests that the list tells, and those of them that are locked.
type Listed = (BTreeMap<Tag, Option<Digest>>, HashSet<Tag>);

async fn list(target: &dyn Target) -> Result<Listed, StoreError> {
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
