//! State of the sync of one pair of repositories: the data that the tags share, and the records of the outcomes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, SemaphorePermit};
use tracing::Span;

use super::tag_slots::TagSlot;
use crate::copy::event::BlobCounts;
use crate::copy::{Batch, CopyJob, Outcome};
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

pub(crate) struct RepositorySync<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) span: Span,
    pub(super) pair: OpenPair,
    pub(super) listing: Listing,
    pub(super) selected: HashSet<Tag>,
    pub(super) pins: BTreeMap<Tag, Digest>,
    pub(super) conflicts: Conflicts,
    pub(super) target_states: Vec<TargetState>,
    pub(super) batch: Arc<Batch>,
    pub(super) derived: DerivedDigests,
    pub(super) checks: ReferrerChecks,
    /// Permit of this pair to copy. The first copy of the pair acquires the permit.
    pub(super) copying: OnceCell<Option<SemaphorePermit<'a>>>,
    pub(super) progress: PairProgress,
}

/// Data that the tags of a pair of repositories share during the sync.
#[derive(Debug, Default)]
pub(crate) struct PairProgress {
    /// Source digests that this run has compared with the targets. The lists of referrers of these digests need no
    /// separate sync.
    pub(super) compared: Mutex<HashSet<Digest>>,
    /// Tags of signatures and of lists of referrers that a task of this run has claimed. One task handles each claimed
    /// tag, because tags with the same digest share signatures and referrers.
    pub(super) companions: Mutex<HashSet<Tag>>,
    /// Lists of referrers that this run has requested from the source: the digest of each list, by tag.
    pub(super) source_lists: Mutex<HashMap<Tag, Digest>>,
    /// Tags whose names have the form of a list of referrers, but whose content at the source is no list of referrers.
    pub(super) other_content: Mutex<HashSet<Tag>>,
    /// Locks by digest, for a source that counts reads. Only one task at a time reads a digest.
    reading: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Observations for the journal, each with the index of its target.
    observations: Mutex<Vec<(usize, Observation)>>,
}

impl RepositorySync<'_> {
    /// Returns true if this run has compared a tag or pin that has this digest at the source.
    pub(super) fn has_compared(&self, digest: &Digest) -> bool {
        self.progress.compared.lock().contains(digest)
    }

    /// Waits until the sync of a tag may send requests that the source counts as reads.
    pub(super) async fn wait_to_read(&self, slot: &TagSlot<'_>) {
        let source = self.pair.source.as_ref();
        slot.wait_to_read(|| source.manifest_reads_left(), || source.wait_until_manifest_reads_known()).await;
    }

    pub(super) fn reading_lock(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        self.progress.reading.lock().entry(digest).or_default().clone()
    }

    /// Returns the digest that the entry pins for a tag. The run reads the source by this digest, even if the tag has a
    /// different digest at the source.
    pub(super) fn pinned_digest(&self, reference: &ManifestRef) -> Option<Digest> {
        match reference {
            ManifestRef::Tag(tag) => self.pins.get(tag).copied(),
            ManifestRef::Digest(_) => None,
        }
    }

    /// Waits until this pair of repositories may copy. Then runs a copy job, and returns the outcome at each target.
    pub(super) async fn copies(&self, job: CopyJob) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.acquire_copy_permit()).await;
        self.batch.copy_each(job)
    }

    /// Waits until this pair of repositories may copy. Then copies only the referrers of the job's digest, and returns
    /// the outcome at each target. The targets already have the digest.
    pub(super) async fn refreshes(&self, job: CopyJob) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.acquire_copy_permit()).await;
        self.batch.refresh_each(job)
    }

    /// Records the outcome of a tag at a target to which the run copied nothing.
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

    /// Stores the digests of a tag at the source and at a target. [`Self::record_observations`] writes the digests to
    /// the journal under the name of the tag at the target.
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

    pub(super) async fn record_observations(self) {
        self.checks.forget_old().await;
        if self.run.request.only.is_some() {
            // The journal expects the observations of all tags. A run for pushed tags has observations of only a few
            // tags.
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
