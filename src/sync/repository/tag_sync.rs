//! Sync of single tags and pinned digests. The digests at the source and at the targets are compared, and the content
//! is copied to each target whose digest differs. All tags of a pair of repositories are synced concurrently.

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;
use tracing::{Instrument as _, Span, field};

use super::repository_sync::RepositorySync;
use super::tag_slots::{TagSlot, TagSlots};
use crate::copy::{CopyError, CopyJob, Outcome, Previous};
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::Action;
use crate::store::{ErrorKind, Side, Step, StoreError, Target};
use crate::sync::comparison::tag_comparison::{
    confirm_target_digest, decide_action, overwrite_rule, query_source_digest, query_target_digest,
};
use crate::sync::comparison::tag_naming::target_reference;
use crate::sync::comparison::target_listing::TagState;
use crate::sync::journaling::evidence::record_evidence_and_outcome;
use crate::sync::report::run_report::TagOutcome;
use crate::sync::selection::listing::Listing;

/// Maximum number of unfinished tags of one repository, including tags that wait for slower targets. The number bounds
/// the memory, because the memory of each tag is bounded.
const TAGS_UNFINISHED: usize = 128;

/// Result of the comparison of a tag or pinned digest at the source and at the targets.
struct Compared {
    source_digest: Digest,
    /// Digest to write at the targets: the digest at the source, or the digest of the index derived for some platforms.
    wanted: Digest,
    /// For each target: the action and the present digest, or the outcome if no action is possible.
    decided: Vec<Result<(Action, Option<Digest>), TagOutcome>>,
    /// Result of the check that the content of the tag has the digest that the source stated.
    confirmed: Result<(), Unconfirmed>,
}

/// Reason why a tag is not copied although a target needs it.
enum Unconfirmed {
    /// The content has another digest than the source stated.
    Differs(TagOutcome),
    /// The manifest of the tag cannot be read.
    Unread(TagOutcome),
}

/// Content of a tag at the source.
struct SourceSide {
    digest: Digest,
    /// Digest to write at the targets: the digest at the source, or the digest of the index derived for some platforms.
    wanted: Digest,
    /// True if the manifest was requested by its tag, not by its digest.
    is_read: bool,
}

impl RepositorySync<'_> {
    /// Syncs these tags and digests concurrently.
    pub(super) async fn sync_each(&self, references: impl Iterator<Item = ManifestRef>) {
        let slots = &TagSlots::new();
        let remaining_reads = || self.pair.source.manifest_reads_left();
        stream::iter(references)
            .for_each_concurrent(TAGS_UNFINISHED, |reference| async move {
                let slot = slots.acquire(remaining_reads).await;
                if !self.run.is_draining() {
                    self.sync_tag(&reference, &slot).await;
                }
            })
            .await;
    }

    /// Compares one tag or pinned digest at the source and at the targets, and copies it to each target that differs.
    pub(super) async fn sync_tag(&self, reference: &ManifestRef, slot: &TagSlot<'_>) {
        // The parent is set explicitly: a signature may be synced within the span of the tag that it signs, and its log
        // lines must not belong to that tag.
        let span = match reference {
            ManifestRef::Tag(tag) => tracing::info_span!(parent: &self.span, "tag", %tag, digest = field::Empty),
            ManifestRef::Digest(digest) => tracing::info_span!(parent: &self.span, "digest", %digest),
        };
        self.compare_and_copy(reference, slot).instrument(span).await;
    }

    /// Does the work of [`Self::sync_tag`] within the span of the tag.
    async fn compare_and_copy(&self, reference: &ManifestRef, slot: &TagSlot<'_>) {
        let at_target = match target_reference(&self.run.request.entry, reference) {
            Ok(at_target) => at_target,
            Err(outcome) => return self.record_outcome_at_all(reference, None, &outcome).await,
        };
        let compared = match self.compare_sides(reference, &at_target, &self.listing, slot).await {
            // The tag may have been overwritten since it was listed. No outcome is recorded yet, so the comparison is
            // repeated once, without the list.
            Ok(Compared { confirmed: Err(Unconfirmed::Differs(_)), .. }) => {
                self.compare_sides(reference, &at_target, &Listing::default(), slot).await
            }
            compared => compared,
        };
        let Compared { source_digest, wanted, decided, confirmed } = match compared {
            Ok(compared) => compared,
            Err((source_digest, outcome)) => {
                return self.record_outcome_at_all(reference, source_digest, &outcome).await;
            }
        };
        Span::current().record("digest", field::display(wanted));
        self.progress.compared.lock().insert(source_digest);
        let (mut jobs, mut unchanged) = (Vec::new(), Vec::new());
        for (target_index, decision) in decided.into_iter().enumerate() {
            let outcome = match decision {
                Ok((action, present)) => {
                    self.observe(target_index, reference, source_digest, present);
                    if action == Action::Unchanged {
                        unchanged.push(target_index);
                    }
                    match (outcome_without_copy(&action), &confirmed) {
                        (Some(outcome), _) => outcome,
                        (None, Err(Unconfirmed::Differs(outcome) | Unconfirmed::Unread(outcome))) => outcome.clone(),
                        (None, Ok(())) => {
                            jobs.push((target_index, action));
                            continue;
                        }
                    }
                }
                Err(outcome) => outcome,
            };
            self.record_outcome(target_index, reference, Some(source_digest), Some(wanted), outcome).await;
            slot.release();
        }
        self.copy_to_targets(reference, &at_target, source_digest, jobs, slot).await;
        self.sync_late_companions(reference, source_digest, wanted, &unchanged, slot).await;
    }

    /// Queries the source and the targets concurrently, and decides the action at each target. `at_target` is the
    /// reference at the targets, where the tag may have another name. The digests in `listing`
    /// are not requested again. An error includes the source's digest if the digest is known.
    async fn compare_sides(
        &self,
        reference: &ManifestRef,
        at_target: &ManifestRef,
        listing: &Listing,
        slot: &TagSlot<'_>,
    ) -> Result<Compared, (Option<Digest>, TagOutcome)> {
        let known: Vec<TagState> = self.target_states.iter().map(|state| state.tag_state(at_target)).collect();
        let overwrite = overwrite_rule(&self.run.request.entry, at_target);
        let answers = join_all(self.pair.targets.iter().zip(&known).map(|(target, known)| {
            let span = tracing::info_span!("target", target = target.place());
            query_target_digest(target.as_ref(), *known, at_target, &self.conflicts, overwrite).instrument(span)
        }));
        let (source, answers) = join(self.query_source(reference, listing, &known, slot), answers).await;
        let SourceSide { digest: source_digest, wanted, is_read } = source?;
        let answers = known.into_iter().zip(answers).enumerate();
        let decided =
            answers.map(|(target_index, answer)| self.decide_at_target(target_index, at_target, wanted, answer));
        let decided = join_all(decided).await;
        let is_ordered = decided.iter().flatten().any(|(action, _)| outcome_without_copy(action).is_none());
        let confirmed =
            if is_ordered && !is_read { self.confirm_digest(reference, source_digest, slot).await } else { Ok(()) };
        Ok(Compared { source_digest, wanted, decided, confirmed })
    }

    /// Decides the action at one target. `reference` is the reference at the target, `known` is the state from the
    /// target's list, and `answer` the target's digest or the outcome of a failed request.
    async fn decide_at_target(
        &self,
        target_index: usize,
        reference: &ManifestRef,
        wanted: Digest,
        (known, answer): (TagState, Result<Option<Digest>, TagOutcome>),
    ) -> Result<(Action, Option<Digest>), TagOutcome> {
        let target = self.pair.targets[target_index].as_ref();
        let overwrite = overwrite_rule(&self.run.request.entry, reference);
        let present = confirm_target_digest(target, reference, (known, answer?), wanted, overwrite).await?;
        let action = decide_action(reference, wanted, present, overwrite);
        if outcome_without_copy(&action).is_none() && self.target_states[target_index].is_locked(reference) {
            let reason = format!(
                "the registry has locked the tag {reference}: to allow the write, unlock the tag at the registry"
            );
            return Err(TagOutcome::Blocked { reason });
        }
        if outcome_without_copy(&action).is_none() {
            self.protect_referrers_list(target, reference).await?;
        }
        Ok((action, present))
    }

    /// Returns the source's digest, and the digest that the targets should have. An error includes the source's digest
    /// if the digest is known.
    async fn query_source(
        &self,
        reference: &ManifestRef,
        listing: &Listing,
        known: &[TagState],
        slot: &TagSlot<'_>,
    ) -> Result<SourceSide, (Option<Digest>, TagOutcome)> {
        let (digest, is_read) =
            self.query_source_digest(reference, listing, known, slot).await.map_err(|outcome| (None, outcome))?;
        match self.derived.derive(&self.batch, digest).await {
            Ok(wanted) => Ok(SourceSide { digest, wanted, is_read }),
            Err(error) => Err((Some(digest), TagOutcome::failed(&error))),
        }
    }

    /// Returns the source's digest, and true if the digest needs no confirmation by a read of the tag.
    ///
    /// If no target has the tag, the manifest must be read in any case, so one GET of the tag yields both. There are
    /// two exceptions, at which the digest is requested first: a source that counts reads, and a source with mirrors.
    async fn query_source_digest(
        &self,
        reference: &ManifestRef,
        listing: &Listing,
        known: &[TagState],
        slot: &TagSlot<'_>,
    ) -> Result<(Digest, bool), TagOutcome> {
        if let Some(digest) = self.pinned_digest(reference) {
            return Ok((digest, true));
        }
        let source = self.pair.source.as_ref();
        if let ManifestRef::Tag(tag) = reference
            && !source.counts_manifest_reads()
            && !source.is_mirrored()
            && known.iter().all(|known| *known == TagState::Absent)
            && listing.tags.get(tag).copied().flatten().is_none()
        {
            self.wait_to_read(slot).await;
            // In the meantime the source may have reported a pull quota. Then the source counts reads, and the digest
            // is requested first.
            if !source.counts_manifest_reads() {
                let read = self.batch.read_tag(tag).await;
                return match read {
                    Ok(digest) => Ok((digest, true)),
                    Err(error) => Err(self.describe_unread_tag(tag, listing, error).await),
                };
            }
        }
        query_source_digest(source, listing, reference).await.map(|digest| (digest, false))
    }

    /// Returns the outcome of a tag whose manifest could not be read. If the source does not have the tag, the message
    /// names the nearest tags.
    async fn describe_unread_tag(&self, tag: &Tag, listing: &Listing, error: CopyError) -> TagOutcome {
        match error {
            CopyError::Store { side: Side::Source, mut error } if error.kind == ErrorKind::NotFound => {
                error.detail += &listing.near_tags.describe_near(self.pair.source.as_ref(), tag).await;
                TagOutcome::failed(&CopyError::Store { side: Side::Source, error })
            }
            error => TagOutcome::failed(&error),
        }
    }

    /// Confirms the digest of a tag that will be copied: reads the manifest by the tag, and compares the digests. The
    /// response to a HEAD, or the source's list, may state the digest of other content. Without this check, the wrong
    /// content would be written to the target's tag. There are two exceptions:
    /// - If the source counts reads, a digest that was already read is not read again.
    /// - If the source has mirrors, the digest is not confirmed, because the reads would be sent to the mirrors.
    async fn confirm_digest(
        &self,
        reference: &ManifestRef,
        stated: Digest,
        slot: &TagSlot<'_>,
    ) -> Result<(), Unconfirmed> {
        let ManifestRef::Tag(tag) = reference else { return Ok(()) };
        let source = &self.pair.source;
        if source.is_mirrored() {
            return Ok(());
        }
        self.wait_to_read(slot).await;
        // Tags with the same digest wait until the first of them has read the digest.
        let lock = source.counts_manifest_reads().then(|| self.reading_lock(stated));
        let _guard = match &lock {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        if lock.is_some() && self.batch.has_read(&stated) {
            return Ok(());
        }
        let read = self.batch.read_tag(tag).await;
        let read = read.map_err(|error| Unconfirmed::Unread(TagOutcome::failed(&error)))?;
        if read == stated {
            return Ok(());
        }
        let detail = format!(
            "the source stated the digest {stated}, but the content has the digest {read}: \
             the tag was overwritten in the meantime, or the source is wrong"
        );
        let error = StoreError::new(self.pair.source.place(), Step::ReadManifest, tag, ErrorKind::Corrupt, detail);
        Err(Unconfirmed::Differs(TagOutcome::failed_at(Side::Source, &error)))
    }

    /// Copies the tag to the targets in `orders`. Records the outcome at each target as soon as it is known, without
    /// waiting for the other targets.
    async fn copy_to_targets(
        &self,
        reference: &ManifestRef,
        at_target: &ManifestRef,
        digest: Digest,
        jobs: Vec<(usize, Action)>,
        slot: &TagSlot<'_>,
    ) {
        if jobs.is_empty() {
            return;
        }
        let tag = match at_target {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let targets = jobs.iter().map(|(target_index, action)| (*target_index, previous_content(action))).collect();
        let at_source = self.pinned_digest(reference).map_or_else(|| reference.clone(), ManifestRef::Digest);
        let job = CopyJob { reference: at_source, digest, tag, targets };
        let record = async |(target_index, result): Outcome| {
            slot.release();
            match result {
                Ok(arrival) => {
                    let action = jobs.iter().find(|(job, _)| *job == target_index).map(|(_, action)| action);
                    let recorded = record_evidence_and_outcome(self.run, &arrival, copy_outcome(action));
                    join(recorded, self.checks.record_arrival(&self.batch, reference, &arrival)).await;
                }
                Err(error) => {
                    let outcome = TagOutcome::failed(&name_digest(error, digest));
                    self.record_outcome(target_index, reference, Some(digest), None, outcome).await;
                }
            }
        };
        self.copies(job).await.for_each_concurrent(None, record).await;
    }

    /// Blocks a tag if the source has other content under the tag, and the target has a list of referrers under it. The
    /// write would replace the list, and clients could no longer find the referrers.
    async fn protect_referrers_list(&self, target: &dyn Target, reference: &ManifestRef) -> Result<(), TagOutcome> {
        let ManifestRef::Tag(tag) = reference else { return Ok(()) };
        if !self.progress.other_content.lock().contains(tag) {
            return Ok(());
        }
        match target.has_referrers_list(tag).await {
            Ok(true) => {
                let reason = format!(
                    "the tag {tag} of the target is a list of referrers, and the source's image with this tag would \
                     replace it"
                );
                Err(TagOutcome::Blocked { reason })
            }
            // If the target denies the read, the tag is written nevertheless, like any other tag.
            Ok(false) => Ok(()),
            Err(error) if error.kind == ErrorKind::Denied => Ok(()),
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        }
    }
}

/// Returns the outcome of an action that copies nothing; `None` for all other actions.
fn outcome_without_copy(action: &Action) -> Option<TagOutcome> {
    match action {
        Action::Unchanged => Some(TagOutcome::Unchanged),
        Action::Block { reason } => Some(TagOutcome::Blocked { reason: reason.clone() }),
        Action::Copy | Action::Replace { .. } | Action::ReplaceKeeping { .. } => None,
    }
}

/// Adds the intended digest of the tag to an error whose subject is a tag.
fn name_digest(error: CopyError, digest: Digest) -> CopyError {
    match error {
        CopyError::Store { side, mut error } if error.subject.parse::<Tag>().is_ok() => {
            error.subject = format!("{} ({digest})", error.subject);
            CopyError::Store { side, error }
        }
        other => other,
    }
}

/// Returns the content that an action replaces; `None` if it replaces nothing.
pub(crate) fn previous_content(action: &Action) -> Option<Previous> {
    match action {
        Action::Replace { previous } => Some(Previous { digest: *previous, under: None }),
        Action::ReplaceKeeping { previous, under } => Some(Previous { digest: *previous, under: Some(under.clone()) }),
        _ => None,
    }
}

/// Returns the outcome of a successful copy.
fn copy_outcome(action: Option<&Action>) -> TagOutcome {
    match action {
        Some(Action::Replace { previous }) => TagOutcome::Replaced { previous: *previous, kept_as: None },
        Some(Action::ReplaceKeeping { previous, under }) => {
            TagOutcome::Replaced { previous: *previous, kept_as: Some(under.clone()) }
        }
        _ => TagOutcome::Copied,
    }
}
