//! Delivery of one closure to one target. A delivery waits for the blobs, writes the manifests (children before
//! parents), and writes the tag last.

mod arrivals;
mod referrers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, Shared, try_join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::Span;

use self::arrivals::with_manifest;
use super::batch::{CopyJob, Previous};
use super::blob::single_flight::RepositoryScope;
use super::blob::stragglers::ProgressTracker;
use super::blob::transfer::{Trust, copy_again};
use super::closure::Closure;
use super::destination::Destination;
use super::event::{Arrival, BlobOutcome, Event, LeftBehind};
use super::manifest_cache::Node;
use super::{Batch, CopyError, Ledger};
use crate::oci::{Descriptor, Digest, ManifestRef, Tag};
use crate::store::{ReferrerLink, Scope, Target};

/// Maximum number of manifests of one rank that are written at the same time.
const WRITES_AT_ONCE: usize = 16;

/// Future with the result of a blob's transfer. Several tasks can wait for the same future.
type Awaited = Shared<BoxFuture<'static, Result<(), CopyError>>>;

pub(super) struct Delivery {
    pub(super) batch: Arc<Batch>,
    index: usize,
    /// Progress tracker of the target, if the copy job has several targets.
    tracker: Option<Arc<ProgressTracker>>,
    started: DateTime<Utc>,
    span: Span,
    blobs: Mutex<HashMap<Digest, Awaited>>,
    tally: Mutex<Tally>,
    /// Optional manifests that this delivery could not write or could not add to a list of referrers, by digest.
    left_behind: Mutex<HashMap<Digest, LeftBehind>>,
    ended: AtomicBool,
    /// Error of the first required item that cannot be copied.
    failure: watch::Sender<Option<CopyError>>,
}

/// Bytes and blobs that this delivery has transferred.
#[derive(Default)]
struct Tally {
    /// Last outcome of each blob. If the target lost a mounted blob and the delivery then sent the blob, the blob
    /// counts as sent.
    blobs: HashMap<Digest, BlobOutcome>,
    bytes: u64,
}

impl Tally {
    fn count(&self, outcome: BlobOutcome) -> u64 {
        self.blobs.values().filter(|recorded| **recorded == outcome).count() as u64
    }
}

impl Delivery {
    pub(super) fn new(batch: Arc<Batch>, index: usize, has_siblings: bool) -> Self {
        let target = &batch.targets[index].target;
        let tracker = has_siblings.then(|| batch.copier.trackers.tracker_for(target.scope()));
        let span = tracing::info_span!("target", target = target.place());
        Self {
            batch,
            index,
            tracker,
            started: Utc::now(),
            span,
            blobs: Mutex::default(),
            tally: Mutex::default(),
            left_behind: Mutex::default(),
            ended: AtomicBool::new(false),
            failure: watch::Sender::new(None),
        }
    }

    pub(super) fn target(&self) -> &Arc<dyn Target> {
        &self.destination().target
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Returns the scope and the repository of the target, for claims of blobs.
    pub(super) fn place(&self) -> (Scope, RepositoryScope) {
        (self.target().scope(), self.target().repository().cloned())
    }

    pub(super) fn tracker(&self) -> Option<&Arc<ProgressTracker>> {
        self.tracker.as_ref()
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.batch.targets[self.index]
    }

    /// Stores the channel that receives the result of a blob's transfer.
    pub(super) fn expect_blob(&self, digest: Digest, answer: oneshot::Receiver<Result<(), CopyError>>) {
        let awaited = answer.map(|answer| answer.unwrap_or(Err(CopyError::Interrupted))).boxed().shared();
        self.blobs.lock().insert(digest, awaited);
    }

    pub(super) fn record_blob(&self, blob: &Descriptor, outcome: BlobOutcome) {
        let mut tally = self.tally.lock();
        tally.blobs.insert(blob.digest, outcome);
        if outcome == BlobOutcome::Copied {
            tally.bytes += blob.size;
        }
    }

    pub(super) fn has_sent(&self, blob: &Digest) -> bool {
        self.tally.lock().blobs.get(blob) == Some(&BlobOutcome::Copied)
    }

    /// Marks the delivery as ended. An ended delivery starts no new transfers.
    pub(super) fn mark_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Reports that a required item cannot be copied. The delivery fails with the first reported error, and does not
    /// wait for its other transfers.
    pub(super) fn fail(&self, error: CopyError) {
        self.failure.send_if_modified(|failure| match failure {
            Some(_) => false,
            None => {
                *failure = Some(error);
                true
            }
        });
    }

    /// Waits until the copy of a required item fails. Never returns if no copy fails.
    pub(super) async fn wait_for_failure(&self) -> CopyError {
        let mut failures = self.failure.subscribe();
        let failure = failures.wait_for(Option::is_some).await;
        failure.ok().and_then(|failure| failure.clone()).unwrap_or(CopyError::Interrupted)
    }

    /// Writes the manifests of the closure, and then the tag of the copy job. If a required item cannot be copied,
    /// returns the error at once. Before the write of the root's tag, `ledger` records the intent to write the tag.
    pub(super) async fn finish(
        self: &Arc<Self>,
        job: &CopyJob,
        closure: &Closure,
        previous: Option<&Previous>,
        ledger: Option<&dyn Ledger>,
    ) -> Result<Arrival, CopyError> {
        tokio::select! {
            biased;
            finished = self.write_all(job, closure, previous, ledger) => finished,
            error = self.wait_for_failure() => Err(error),
        }
    }

    async fn write_all(
        self: &Arc<Self>,
        job: &CopyJob,
        closure: &Closure,
        previous: Option<&Previous>,
        ledger: Option<&dyn Ledger>,
    ) -> Result<Arrival, CopyError> {
        for rank in &closure.ranks {
            stream::iter(rank.iter().map(Ok))
                .try_for_each_concurrent(WRITES_AT_ONCE, |node| self.write_or_leave_behind(closure, node))
                .await?;
        }
        self.link_all(closure).await?;
        self.wait_for_blobs(closure, &closure.root).await?;
        self.record_intent(ledger, &with_manifest(self.arrival(job, closure, previous), &closure.root)).await?;
        if let Some(Previous { digest, under: Some(under) }) = previous {
            self.keep_previous(job, *digest, under).await?;
        }
        self.link_root(closure).await?;
        self.write(closure, &closure.root, job.tag.as_ref()).await?;
        if job.tag.is_none() {
            self.target().keep_root(&closure.root.manifest).await.map_err(CopyError::target)?;
        }
        Ok(self.arrival(job, closure, previous))
    }

    async fn write_with_tags(self: &Arc<Self>, closure: &Closure, node: &Arc<Node>) -> Result<(), CopyError> {
        self.wait_for_blobs(closure, node).await?;
        let tags = closure.tags.get(&node.digest());
        // After a write under a tag, the target also returns the manifest by digest. So no write by digest is needed.
        if tags.is_none() || node.view.subject.is_some() {
            self.write(closure, node, None).await?;
        }
        let tags = tags.into_iter().flatten().map(|tag| self.write_signature(closure, node, tag));
        try_join_all(tags).await.map(|_| ())
    }

    async fn wait_for_blobs(&self, closure: &Closure, node: &Node) -> Result<(), CopyError> {
        let awaited: Vec<Awaited> = {
            let blobs = self.blobs.lock();
            closure.blobs_for(node).iter().filter_map(|blob| blobs.get(&blob.digest).cloned()).collect()
        };
        // Processes the results in the order of completion. So the first failure ends the wait.
        let mut awaited: FuturesUnordered<Awaited> = awaited.into_iter().collect();
        while awaited.try_next().await?.is_some() {}
        Ok(())
    }

    /// Writes a manifest. If the target reports that content of the manifest is missing, sends the content again, in at
    /// most two attempts. The first attempt queries the target for each blob and sends the missing blobs. The second
    /// attempt sends every blob without a query.
    async fn write(
        self: &Arc<Self>,
        closure: &Closure,
        node: &Arc<Node>,
        tag: Option<&Tag>,
    ) -> Result<ReferrerLink, CopyError> {
        let mut last = self.write_once(node, tag).await;
        for trust in [Trust::Responses, Trust::Nothing] {
            if !last.as_ref().is_err_and(CopyError::is_missing_content) {
                break;
            }
            let manifest = node.digest();
            tracing::warn!(%manifest, "the target lost content: sending the content again");
            self.send_content_again(closure, node, trust).await?;
            last = self.write_once(node, tag).await;
        }
        last
    }

    fn send_content_again<'a>(
        self: &'a Arc<Self>,
        closure: &'a Closure,
        node: &'a Arc<Node>,
        trust: Trust,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        async move {
            let blobs = closure.blobs_for(node).into_iter().map(|blob| copy_again(self, blob, trust));
            try_join_all(blobs).await?;
            for child in closure.children(node) {
                let mut pushed = self.push_manifest(child, None).await;
                if pushed.as_ref().is_err_and(CopyError::is_missing_content) {
                    self.send_content_again(closure, child, trust).await?;
                    pushed = self.push_manifest(child, None).await;
                }
                self.destination().record_written(child.digest(), pushed?);
            }
            Ok(())
        }
        .boxed()
    }

    /// Writes a manifest under `tag`, or by digest if `tag` is `None`. A batch writes a manifest by digest at most
    /// once. If the target already has the manifest, the batch skips this write. A referrer is always written.
    async fn write_once(&self, node: &Node, tag: Option<&Tag>) -> Result<ReferrerLink, CopyError> {
        if tag.is_some() {
            return self.push_manifest(node, tag).await;
        }
        let cell = self.destination().written_cell(node.digest());
        let write = || async {
            // Only the response to the PUT of a referrer states whether the target lists the referrer.
            let is_referrer = node.view.subject.is_some();
            let may_exist = !is_referrer && !self.destination().is_empty();
            if may_exist && self.resolve_at_target(&node.digest().into()).await? == Some(node.digest()) {
                return Ok(ReferrerLink::Listed);
            }
            self.push_manifest(node, None).await
        };
        cell.get_or_try_init(write).await.copied()
    }

    /// Writes a signature's tag at most once in a batch. If the target's tag is already correct, writes nothing.
    async fn write_signature(
        self: &Arc<Self>,
        closure: &Closure,
        node: &Arc<Node>,
        tag: &Tag,
    ) -> Result<(), CopyError> {
        let write = || async {
            let may_exist = !self.destination().is_empty();
            let current = if may_exist { self.resolve_at_target(&tag.clone().into()).await? } else { None };
            if current == Some(node.digest()) {
                return Ok(());
            }
            let intended = self.signature_arrival(node, tag, current);
            self.record_intent(self.batch.ledger(), &with_manifest(intended, node)).await?;
            self.write(closure, node, Some(tag)).await?;
            let arrival = self.signature_arrival(node, tag, current);
            let arrival = with_manifest(arrival, node);
            self.subtract_bytes(&arrival);
            self.batch.send_event(Event::SignatureArrived(Box::new(arrival))).await;
            Ok(())
        };
        self.destination().signature_cell(tag).get_or_try_init(write).await.map(|_| ())
    }

    /// Returns the digest of a reference at the target. Returns `None` if the target does not have the reference or
    /// refuses the request. The caller then writes the content.
    async fn resolve_at_target(&self, reference: &ManifestRef) -> Result<Option<Digest>, CopyError> {
        match self.target().resolve(reference).await {
            Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
            Err(error) if error.is_transient() || error.quota_spent().is_some() => Err(CopyError::target(error)),
            Err(error) => {
                if self.destination().is_first_unreadable() {
                    tracing::warn!(%error, "the target denies reads: writing all manifests");
                }
                Ok(None)
            }
        }
    }

    async fn push_manifest(&self, node: &Node, tag: Option<&Tag>) -> Result<ReferrerLink, CopyError> {
        let link = self.target().push_manifest(&node.manifest, tag).await.map_err(CopyError::target)?;
        let mut tally = self.tally.lock();
        tally.bytes += node.manifest.bytes().len() as u64;
        Ok(link)
    }
}
