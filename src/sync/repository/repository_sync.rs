//! Pair of repositories during a run: the data that its tags share, and the records of their outcomes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, SemaphorePermit};
use tracing::Span;

use super::tag_slots::TagSlot;
use crate::copy::event::BlobCounts;
use crate::copy::{Batch, Order, Outcome};
use crate::journal::Observation;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::sync::comparison::conflicts::Conflicts;
use crate::sync::comparison::tag_naming::ReportedTag;
use crate::sync::comparison::target_listing::TargetState;
use crate::sync::context::run::Run;
use crate::sync::journaling::derived_digests::DerivedDigests;
use crate::sync::referrers::checks::ReferrerChecks;
use crate::sync::report::run_report::{TagOutcome, TagReport};
use crate::sync::selection::listing::Listing;
use crate::sync::selection::pairs::OpenPair;

/// Pair of repositories that a run is syncing.
pub(crate) struct RepositorySync<'a> {
    pub(super) run: &'a Run<'a>,
    /// Span of the pair's log lines.
    pub(super) span: Span,
    pub(super) pair: OpenPair,
    pub(super) listing: Listing,
    pub(super) selected: HashSet<Tag>,
    /// Pinned tags, each with its digest.
    pub(super) pins: BTreeMap<Tag, Digest>,
    pub(super) conflicts: Conflicts,
    /// State of each target.
    pub(super) target_states: Vec<TargetState>,
    pub(super) batch: Arc<Batch>,
    pub(super) derived: DerivedDigests,
    pub(super) checks: ReferrerChecks,
    /// Permit to copy, acquired before the first copy.
    pub(super) copying: OnceCell<Option<SemaphorePermit<'a>>>,
    pub(super) progress: PairProgress,
}

/// Data that the tags of a pair of repositories share while they are synced.
#[derive(Debug, Default)]
pub(crate) struct PairProgress {
    /// Digests that were compared. Their referrers need no separate sync.
    pub(super) compared: Mutex<HashSet<Digest>>,
    /// Tags of signatures and of lists of referrers that a task of this run has claimed. Tags with the same digest
    /// share them, so one task handles each of them.
    pub(super) companions: Mutex<HashSet<Tag>>,
    /// Lists of referrers that this run has requested from the source.
    pub(super) source_lists: Mutex<HashMap<Tag, Digest>>,
    /// Tags that have the form of a list of referrers, but other content at the source.
    pub(super) other_content: Mutex<HashSet<Tag>>,
    /// Locks for a source that counts reads: one task at a time reads a digest.
    reading: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Observations for the journal, each with the index of its target.
    observations: Mutex<Vec<(usize, Observation)>>,
}

impl RepositorySync<'_> {
    /// Returns true if this run has compared a tag or pin that has this digest at the source.
    pub(super) fn has_compared(&self, digest: &Digest) -> bool {
        self.progress.compared.lock().contains(digest)
    }

    /// Waits until a tag may send requests that its source counts as reads.
    pub(super) async fn wait_to_read(&self, slot: &TagSlot<'_>) {
        let source = self.pair.source.as_ref();
        slot.wait_to_read(|| source.manifest_reads_left(), || source.wait_until_manifest_reads_known()).await;
    }

    /// Returns the lock for reads of this digest.
    pub(super) fn reading_lock(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        self.progress.reading.lock().entry(digest).or_default().clone()
    }

    /// Returns the digest that the entry pins for a tag. The source is then read by this digest, even if the tag has
    /// another digest at the source.
    pub(super) fn pinned_digest(&self, reference: &ManifestRef) -> Option<Digest> {
        match reference {
            ManifestRef::Tag(tag) => self.pins.get(tag).copied(),
            ManifestRef::Digest(_) => None,
        }
    }

    /// Copies an order and returns the outcome at each target. Waits first until this repository may copy.
    pub(super) async fn copies(&self, order: Order) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.acquire_copy_permit()).await;
        self.batch.copy_each(order)
    }

    /// Copies the referrers of an order whose digest the targets already have, and returns the outcome at each target.
    /// Waits first until this repository may copy.
    pub(super) async fn refreshes(&self, order: Order) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.acquire_copy_permit()).await;
        self.batch.refresh_each(order)
    }

    /// Records the outcome of a tag at a target if nothing was copied.
    pub(super) async fn record_outcome(
        &self,
        target_index: usize,
        reference: &ManifestRef,
        source_digest: Option<Digest>,
        wanted: Option<Digest>,
        outcome: TagOutcome,
    ) {
        let ReportedTag { tag, source_tag } = ReportedTag::new(&self.run.request.entry, reference);
        let report = TagReport {
            source: self.pair.source.place().to_owned(),
            target: self.pair.targets[target_index].place().to_owned(),
            tag,
            source_tag,
            digest: wanted.or(source_digest),
            source_digest,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        self.run.record_outcome(report).await;
    }

    /// Records the same outcome of a tag at all targets.
    pub(super) async fn record_outcome_at_all(
        &self,
        reference: &ManifestRef,
        source_digest: Option<Digest>,
        outcome: &TagOutcome,
    ) {
        for target_index in 0..self.pair.targets.len() {
            self.record_outcome(target_index, reference, source_digest, None, outcome.clone()).await;
        }
    }

    /// Stores the digests of a tag at the source and at a target, under the name of the tag at the target, until
    /// [`Self::record_observations`] writes them to the journal.
    pub(super) fn observe(
        &self,
        target_index: usize,
        reference: &ManifestRef,
        source_digest: Digest,
        target_digest: Option<Digest>,
    ) {
        if let Some(tag) = ReportedTag::new(&self.run.request.entry, reference).tag {
            let observation = Observation { tag, source_digest, target_digest };
            self.progress.observations.lock().push((target_index, observation));
        }
    }

    /// Writes the observed tags to the journal.
    pub(super) async fn record_observations(self) {
        self.checks.forget_old().await;
        if self.run.request.only.is_some() {
            // The journal takes observations as those of a whole run, and a run for pushed tags has only a few.
            return;
        }
        let Some(journal) = &self.run.engine.journal else { return };
        let observed = self.progress.observations.into_inner();
        let mut by_target: BTreeMap<usize, Vec<Observation>> = BTreeMap::new();
        for (target_index, observation) in observed {
            by_target.entry(target_index).or_default().push(observation);
        }
        let (entry, source) = (self.run.request.entry.name.as_str(), self.pair.source.place());
        for (target_index, observations) in by_target {
            let target = self.pair.targets[target_index].place();
            if let Err(error) = journal.observe_tags(entry, source, target, observations, self.run.started).await {
                self.run.report_problem(error.to_string());
            }
        }
    }
}
