//! Sync of single tags and pinned digests: each is compared at both sides, and copied if the sides differ. All tags of
//! a pair proceed concurrently.

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;
use tracing::{Instrument as _, Span, field};

use super::repository_sync::RepositorySync;
use super::tag_slots::{TagSlot, TagSlots};
use crate::copy::{CopyError, Order, Outcome, Previous};
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::Action;
use crate::store::{ErrorKind, Side, Step, StoreError, Target};
use crate::sync::comparison::tag_comparison::{
    confirm_target_digest, decide_action, overwrite_rule, query_source_digest, query_target_digest,
};
use crate::sync::comparison::target_listing::TagState;
use crate::sync::journaling::evidence::settle_arrival;
use crate::sync::report::run_report::TagOutcome;
use crate::sync::selection::listing::Listing;

/// Maximum number of unfinished tags of one repository, including those that wait for slower targets. The memory of
/// each tag is bounded; this constant bounds the total.
const TAGS_UNFINISHED: usize = 128;

/// Tag or pinned digest, compared at both sides.
struct Compared {
    source_digest: Digest,
    /// Digest to write at the targets: the source's, or that of the index derived for a subset of platforms.
    wanted: Digest,
    /// Action for each target, and the digest that the target has.
    decided: Vec<Result<(Action, Option<Digest>), TagOutcome>>,
    /// Result of the check that the content to copy is the content of the tag.
    confirmed: Result<(), Unconfirmed>,
}

/// Reason for which a tag is not copied although a target needs it.
enum Unconfirmed {
    /// The bytes have another digest than the source stated.
    Differs(TagOutcome),
    /// The manifest cannot be read.
    Unread(TagOutcome),
}

/// Content of a tag at the source.
struct SourceSide {
    digest: Digest,
    /// Digest to write at the targets: the source's, or that of the index derived for a subset of platforms.
    wanted: Digest,
    /// True if the manifest was requested by its tag, not by its digest.
    is_read: bool,
}

impl RepositorySync<'_> {
    /// Syncs these tags and digests concurrently.
    pub(super) async fn sync_each(&self, references: impl Iterator<Item = ManifestRef>) {
        let slots = &TagSlots::new();
        let reads_left = || self.pair.source.manifest_reads_left();
        stream::iter(references)
            .for_each_concurrent(TAGS_UNFINISHED, |reference| async move {
                let slot = slots.acquire(reads_left).await;
                if !self.run.is_draining() {
                    self.sync_tag(&reference, &slot).await;
                }
            })
            .await;
    }

    /// Compares one tag or pinned digest at both sides and copies it to the targets that differ.
    pub(super) async fn sync_tag(&self, reference: &ManifestRef, slot: &TagSlot<'_>) {
        // A signature may be processed within the span of the tag that it signs; its own log lines are about the
        // signature.
        let span = match reference {
            ManifestRef::Tag(tag) => tracing::info_span!(parent: &self.span, "tag", %tag, digest = field::Empty),
            ManifestRef::Digest(digest) => tracing::info_span!(parent: &self.span, "digest", %digest),
        };
        self.compare_and_copy(reference, slot).instrument(span).await;
    }

    async fn compare_and_copy(&self, reference: &ManifestRef, slot: &TagSlot<'_>) {
        let compared = match self.compare_sides(reference, &self.listing, slot).await {
            // Nothing has been reported yet. If the tag was overwritten in the meantime, its digest is requested once
            // more.
            Ok(Compared { confirmed: Err(Unconfirmed::Differs(_)), .. }) => {
                self.compare_sides(reference, &Listing::default(), slot).await
            }
            compared => compared,
        };
        let Compared { source_digest, wanted, decided, confirmed } = match compared {
            Ok(compared) => compared,
            Err((source_digest, outcome)) => return self.settle_all(reference, source_digest, &outcome).await,
        };
        Span::current().record("digest", field::display(wanted));
        self.progress.compared.lock().insert(source_digest);
        let (mut orders, mut kept) = (Vec::new(), Vec::new());
        for (at, decision) in decided.into_iter().enumerate() {
            let settled = match decision {
                Ok((action, present)) => {
                    self.observe(at, reference, source_digest, present);
                    if action == Action::Unchanged {
                        kept.push(at);
                    }
                    match (outcome_without_copy(&action), &confirmed) {
                        (Some(outcome), _) => outcome,
                        (None, Err(Unconfirmed::Differs(outcome) | Unconfirmed::Unread(outcome))) => outcome.clone(),
                        (None, Ok(())) => {
                            orders.push((at, action));
                            continue;
                        }
                    }
                }
                Err(outcome) => outcome,
            };
            self.settle(at, reference, Some(source_digest), Some(wanted), settled).await;
            slot.release();
        }
        self.copy_to_targets(reference, source_digest, orders, slot).await;
        self.sync_late_companions(reference, source_digest, wanted, &kept, slot).await;
    }

    /// Queries both sides at once, and decides. The source is queried for the facts that `listing` does not have. An
    /// error includes the source's digest if that is known.
    async fn compare_sides(
        &self,
        reference: &ManifestRef,
        listing: &Listing,
        slot: &TagSlot<'_>,
    ) -> Result<Compared, (Option<Digest>, TagOutcome)> {
        let known: Vec<TagState> = self.target_states.iter().map(|state| state.tag_state(reference)).collect();
        let overwrite = overwrite_rule(&self.run.request.entry, reference);
        let answers = join_all(self.pair.targets.iter().zip(&known).map(|(target, known)| {
            let span = tracing::info_span!("target", target = target.place());
            query_target_digest(target.as_ref(), *known, reference, &self.conflicts, overwrite).instrument(span)
        }));
        let (source, answers) = join(self.query_source(reference, listing, &known, slot), answers).await;
        let SourceSide { digest: source_digest, wanted, is_read } = source?;
        let answers = known.into_iter().zip(answers).enumerate();
        let decided = answers.map(|(at, answer)| self.decide_at_target(at, reference, wanted, answer));
        let decided = join_all(decided).await;
        let is_ordered = decided.iter().flatten().any(|(action, _)| outcome_without_copy(action).is_none());
        let confirmed =
            if is_ordered && !is_read { self.confirm_digest(reference, source_digest, slot).await } else { Ok(()) };
        Ok(Compared { source_digest, wanted, decided, confirmed })
    }

    /// Decides the action at one target, from the known state of the tag and from the target's answer for the rest.
    async fn decide_at_target(
        &self,
        at: usize,
        reference: &ManifestRef,
        wanted: Digest,
        (known, answer): (TagState, Result<Option<Digest>, TagOutcome>),
    ) -> Result<(Action, Option<Digest>), TagOutcome> {
        let target = self.pair.targets[at].as_ref();
        let overwrite = overwrite_rule(&self.run.request.entry, reference);
        let present = confirm_target_digest(target, reference, (known, answer?), wanted, overwrite).await?;
        let action = decide_action(reference, wanted, present, overwrite);
        if outcome_without_copy(&action).is_none() && self.target_states[at].is_locked(reference) {
            let reason = format!(
                "the registry has locked the tag {reference}: it may not be written until it is unlocked there"
            );
            return Err(TagOutcome::Blocked { reason });
        }
        if outcome_without_copy(&action).is_none() {
            self.protect_referrers_list(target, reference).await?;
        }
        Ok((action, present))
    }

    /// Returns the source's digest and the digest that the targets are to have for it. An error includes the source's
    /// digest if that is known.
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

    /// Returns the source's digest, and true if its manifest has been read by the tag. If no target has the tag, its
    /// manifest must be read in any case, so one GET also yields the digest. There are two exceptions: a source that
    /// counts reads, and a source with mirrors.
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
            // In the meantime the source may have reported a pull quota. Then the digest is requested first, as always
            // at such a source.
            if !source.counts_manifest_reads() {
                let read = self.batch.read_tag(tag).await;
                return read.map(|digest| (digest, true)).map_err(|error| TagOutcome::failed(&error));
            }
        }
        query_source_digest(source, listing, reference).await.map(|digest| (digest, false))
    }

    /// Reads the manifest of a tag that is to be copied, by the tag itself. The HEAD or the list of a source may state
    /// the digest of other content that the source has. Without this read, that content would be written to the
    /// target's tag. If the source counts reads, a digest that was read once is trusted. If the source has mirrors, the
    /// registry's statement is trusted, because the reads are sent to the mirrors.
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
        // Other tags of the same digest wait for the first one.
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
            "the source stated {stated}, and its content is {read}: the tag moved meanwhile, or the source is wrong"
        );
        let error = StoreError::new(self.pair.source.place(), Step::ReadManifest, tag, ErrorKind::Corrupt, detail);
        Err(Unconfirmed::Differs(TagOutcome::failed_at(Side::Source, &error)))
    }

    /// Copies to these targets. The outcome at each target is recorded as soon as it is known, independent of the
    /// others.
    async fn copy_to_targets(
        &self,
        reference: &ManifestRef,
        digest: Digest,
        orders: Vec<(usize, Action)>,
        slot: &TagSlot<'_>,
    ) {
        if orders.is_empty() {
            return;
        }
        let tag = match reference {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let targets = orders.iter().map(|(at, action)| (*at, previous_content(action))).collect();
        let at_source = self.pinned_digest(reference).map_or_else(|| reference.clone(), ManifestRef::Digest);
        let order = Order { reference: at_source, digest, tag, targets };
        let record = async |(at, result): Outcome| {
            slot.release();
            match result {
                Ok(arrival) => {
                    let action = orders.iter().find(|(order, _)| *order == at).map(|(_, action)| action);
                    let settled = settle_arrival(self.run, &arrival, copy_outcome(action));
                    join(settled, self.checks.record_arrival(&self.batch, reference, &arrival)).await;
                }
                Err(error) => {
                    let outcome = TagOutcome::failed(&name_digest(error, digest));
                    self.settle(at, reference, Some(digest), None, outcome).await;
                }
            }
        };
        self.copies(order).await.for_each_concurrent(None, record).await;
    }

    /// Protects a target's list of referrers from being overwritten with other content under its tag. Without the list,
    /// clients could not find the referrers. The tag is blocked because of its name.
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
            // A tag at a target that denies the read is written nevertheless, as for any other tag.
            Ok(false) => Ok(()),
            Err(error) if error.kind == ErrorKind::Denied => Ok(()),
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        }
    }
}

fn outcome_without_copy(action: &Action) -> Option<TagOutcome> {
    match action {
        Action::Unchanged => Some(TagOutcome::Unchanged),
        Action::Block { reason } => Some(TagOutcome::Blocked { reason: reason.clone() }),
        Action::Copy | Action::Replace { .. } | Action::ReplaceKeeping { .. } => None,
    }
}

/// Adds the digest that the tag was to get to the error of a step that has a tag as its subject.
fn name_digest(error: CopyError, digest: Digest) -> CopyError {
    match error {
        CopyError::Store { side, mut error } if error.subject.parse::<Tag>().is_ok() => {
            error.subject = format!("{} ({digest})", error.subject);
            CopyError::Store { side, error }
        }
        other => other,
    }
}

fn previous_content(action: &Action) -> Option<Previous> {
    match action {
        Action::Replace { previous } => Some(Previous { digest: *previous, under: None }),
        Action::ReplaceKeeping { previous, under } => Some(Previous { digest: *previous, under: Some(under.clone()) }),
        _ => None,
    }
}

fn copy_outcome(action: Option<&Action>) -> TagOutcome {
    match action {
        Some(Action::Replace { previous }) => TagOutcome::Replaced { previous: *previous, kept_as: None },
        Some(Action::ReplaceKeeping { previous, under }) => {
            TagOutcome::Replaced { previous: *previous, kept_as: Some(under.clone()) }
        }
        _ => TagOutcome::Copied,
    }
}
