//! Pair of repositories during a run: the facts that its tags share, and the records of their outcomes.

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
    /// Tags whose digest the entry itself gives.
    pub(super) pins: BTreeMap<Tag, Digest>,
    pub(super) conflicts: Conflicts,
    /// State of each target.
    pub(super) target_states: Vec<TargetState>,
    pub(super) batch: Arc<Batch>,
    pub(super) derived: DerivedDigests,
    pub(super) checks: ReferrerChecks,
    /// Permit among the repositories that copy, held from the first copy on.
    pub(super) copying: OnceCell<Option<SemaphorePermit<'a>>>,
    pub(super) progress: PairProgress,
}

/// Facts that the tags of a pair in progress share.
#[derive(Debug, Default)]
pub(crate) struct PairProgress {
    /// Digests that were compared: their referrers are copied with them.
    pub(super) compared: Mutex<HashSet<Digest>>,
    /// Signatures of unchanged tags that were checked: tags of one digest have the same ones.
    pub(super) companions: Mutex<HashSet<Tag>>,
    /// Lists of referrers that this run has requested from the source.
    pub(super) source_lists: Mutex<HashMap<Tag, Digest>>,
    /// Tags with the name form of a list of referrers that point at other content at the source.
    pub(super) other_content: Mutex<HashSet<Tag>>,
    /// Locks that let one task at a time read a digest, for a source that counts reads.
    reading: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Observations for the journal, each with the index of its target.
    observations: Mutex<Vec<(usize, Observation)>>,
}

impl RepositorySync<'_> {
    /// Returns true if the digest is that of a selected tag or pin at the source.
    pub(super) fn has_compared(&self, digest: &Digest) -> bool {
        self.progress.compared.lock().contains(digest)
    }

    /// Waits until a tag may use the reads that its source counts.
    pub(super) async fn wait_to_read(&self, slot: &TagSlot<'_>) {
        let source = self.pair.source.as_ref();
        slot.wait_to_read(|| source.manifest_reads_left(), || source.wait_until_manifest_reads_known()).await;
    }

    /// Returns the lock that one task at a time holds while it reads this digest.
    pub(super) fn reading_lock(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        self.progress.reading.lock().entry(digest).or_default().clone()
    }

    /// Returns the digest that the entry itself gives for a tag. The source is then read by that digest, even if the
    /// tag has another digest there.
    pub(super) fn pinned_digest(&self, reference: &ManifestRef) -> Option<Digest> {
        match reference {
            ManifestRef::Tag(tag) => self.pins.get(tag).copied(),
            ManifestRef::Digest(_) => None,
        }
    }

    /// Returns the outcome of an order at each target, as soon as this repository may copy.
    pub(super) async fn copies(&self, order: Order) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.acquire_copy_permit()).await;
        self.batch.copy_each(order)
    }

    /// Returns the same for a digest that the targets already have, to copy its referrers.
    pub(super) async fn refreshes(&self, order: Order) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.acquire_copy_permit()).await;
        self.batch.refresh_each(order)
    }

    /// Records the outcome of a tag at a target to which nothing was copied.
    pub(super) async fn settle(
        &self,
        at: usize,
        reference: &ManifestRef,
        source_digest: Option<Digest>,
        wanted: Option<Digest>,
        outcome: TagOutcome,
    ) {
        let tag = match reference {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let report = TagReport {
            source: self.pair.source.place().to_owned(),
            target: self.pair.targets[at].place().to_owned(),
            tag,
            digest: wanted.or(source_digest),
            source_digest,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        self.run.settle(report).await;
    }

    /// Records one outcome of a tag at all targets.
    pub(super) async fn settle_all(
        &self,
        reference: &ManifestRef,
        source_digest: Option<Digest>,
        outcome: &TagOutcome,
    ) {
        for at in 0..self.pair.targets.len() {
            self.settle(at, reference, source_digest, None, outcome.clone()).await;
        }
    }

    /// Keeps the digests of a tag at both sides for the journal.
    pub(super) fn observe(
        &self,
        at: usize,
        reference: &ManifestRef,
        source_digest: Digest,
        target_digest: Option<Digest>,
    ) {
        if let ManifestRef::Tag(tag) = reference {
            let observation = Observation { tag: tag.clone(), source_digest, target_digest };
            self.progress.observations.lock().push((at, observation));
        }
    }

    /// Records in the journal the observed tags.
    pub(super) async fn record_observations(self) {
        self.checks.forget_old().await;
        if self.run.request.only.is_some() {
            // Observations that are recorded together are those of a whole run; this run sees only a few tags.
            return;
        }
        let Some(journal) = &self.run.engine.journal else { return };
        let seen = self.progress.observations.into_inner();
        let mut by_target: BTreeMap<usize, Vec<Observation>> = BTreeMap::new();
        for (at, observation) in seen {
            by_target.entry(at).or_default().push(observation);
        }
        let (entry, source) = (self.run.request.entry.name.as_str(), self.pair.source.place());
        for (at, observations) in by_target {
            let target = self.pair.targets[at].place();
            if let Err(error) = journal.observe_tags(entry, source, target, observations, self.run.started).await {
                self.run.report_problem(error.to_string());
            }
        }
    }
}
