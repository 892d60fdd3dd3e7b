//! One closure on its way to one target: waits for its blobs, writes its manifests children first and the tag last.

mod arrivals;
mod referrers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, Shared, try_join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, TryStreamExt as _, stream};
use tokio::sync::{oneshot, watch};
use tracing::Span;

use self::arrivals::with_manifest;
use super::batch::{Destination, Order, Previous};
use super::blob::{Trust, bring_again};
use super::closure::Closure;
use super::event::{Arrival, BlobOutcome, Event, LeftBehind};
use super::flight::Room;
use super::lane::Lane;
use super::nodes::Node;
use super::{Batch, CopyError, Ledger};
use crate::oci::{Descriptor, Digest, ManifestRef, Tag};
use crate::store::{ReferrerLink, Scope, Target};

/// How many manifests of one rank are written at a time.
const AT_ONCE: usize = 16;

type Awaited = Shared<BoxFuture<'static, Result<(), CopyError>>>;

/// A closure on its way to one target.
pub(super) struct Delivery {
    pub(super) batch: Arc<Batch>,
    at: usize,
    /// Where the order has several targets.
    lane: Option<Arc<Lane>>,
    started: DateTime<Utc>,
    /// What its lines in the log are about.
    span: Span,
    blobs: Mutex<HashMap<Digest, Awaited>>,
    tally: Mutex<Tally>,
    /// What belongs to the root and did not come to this target, by the digest of its manifest.
    left_behind: Mutex<HashMap<Digest, LeftBehind>>,
    given_up: AtomicBool,
    /// Why it fails whatever else comes.
    failure: watch::Sender<Option<CopyError>>,
}

/// What this delivery itself has moved.
#[derive(Default)]
struct Tally {
    /// How each blob came in the end: one that was mounted, lost and sent was sent.
    blobs: HashMap<Digest, BlobOutcome>,
    bytes: u64,
}

impl Tally {
    fn count(&self, outcome: BlobOutcome) -> u64 {
        self.blobs.values().filter(|came| **came == outcome).count() as u64
    }
}

impl Delivery {
    /// On its way to one of the batch's targets, beside others or not.
    pub(super) fn new(batch: Arc<Batch>, at: usize, has_siblings: bool) -> Self {
        let target = &batch.targets[at].target;
        let lane = has_siblings.then(|| batch.copier.lanes.of(target.scope()));
        let span = tracing::info_span!("target", target = target.place());
        Self {
            batch,
            at,
            lane,
            started: Utc::now(),
            span,
            blobs: Mutex::default(),
            tally: Mutex::default(),
            left_behind: Mutex::default(),
            given_up: AtomicBool::new(false),
            failure: watch::Sender::new(None),
        }
    }

    pub(super) fn target(&self) -> &Arc<dyn Target> {
        &self.destination().target
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Where blobs are claimed: the target's scope and its repository there.
    pub(super) fn place(&self) -> (Scope, Room) {
        (self.target().scope(), self.target().repository().cloned())
    }

    pub(super) fn lane(&self) -> Option<&Arc<Lane>> {
        self.lane.as_ref()
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.batch.targets[self.at]
    }

    /// Notes that a blob is being brought, and where the answer will come.
    pub(super) fn expect(&self, digest: Digest, answer: oneshot::Receiver<Result<(), CopyError>>) {
        let awaited = answer.map(|answer| answer.unwrap_or(Err(CopyError::Interrupted))).boxed().shared();
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, awaited);
    }

    /// Notes that a blob came by this delivery's own work.
    pub(super) fn brought(&self, blob: &Descriptor, outcome: BlobOutcome) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.blobs.insert(blob.digest, outcome);
        if outcome == BlobOutcome::Copied {
            tally.bytes += blob.size;
        }
    }

    /// Nothing more is to be brought: the delivery has failed or is complete.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Notes that something that is required cannot be brought: what else is on its way need not come.
    pub(super) fn fail(&self, error: CopyError) {
        self.failure.send_if_modified(|failure| match failure {
            Some(_) => false,
            None => {
                *failure = Some(error);
                true
            }
        });
    }

    /// Waits until something that is required cannot be brought, without end where all of it can.
    pub(super) async fn failed(&self) -> CopyError {
        let mut failures = self.failure.subscribe();
        let failure = failures.wait_for(Option::is_some).await;
        failure.ok().and_then(|failure| failure.clone()).unwrap_or(CopyError::Interrupted)
    }

    /// Writes everything and, when all of it is there, the tag. Ends as soon as something that is required has failed: the tag is
    /// written after all of that. What is about to arrive is in the `ledger` before a tag moves.
    pub(super) async fn finish(
        self: &Arc<Self>,
        order: &Order,
        closure: &Closure,
        previous: Option<&Previous>,
        ledger: Option<&dyn Ledger>,
    ) -> Result<Arrival, CopyError> {
        tokio::select! {
            biased;
            finished = self.write_all(order, closure, previous, ledger) => finished,
            error = self.failed() => Err(error),
        }
    }

    async fn write_all(
        self: &Arc<Self>,
        order: &Order,
        closure: &Closure,
        previous: Option<&Previous>,
        ledger: Option<&dyn Ledger>,
    ) -> Result<Arrival, CopyError> {
        for rank in &closure.ranks {
            stream::iter(rank.iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |node| self.write_or_leave(closure, node))
                .await?;
        }
        self.link(closure).await?;
        self.blobs_of(closure, &closure.root).await?;
        self.intend(ledger, &with_manifest(self.arrival(order, closure, previous), &closure.root)).await?;
        if let Some(Previous { digest, under: Some(under) }) = previous {
            self.keep(order, *digest, under).await?;
        }
        self.link_root(closure).await?;
        self.write(closure, &closure.root, order.tag.as_ref()).await?;
        if order.tag.is_none() {
            self.target().keep_root(&closure.root.manifest).await.map_err(CopyError::target)?;
        }
        Ok(self.arrival(order, closure, previous))
    }

    async fn write_with_tags(self: &Arc<Self>, closure: &Closure, node: &Arc<Node>) -> Result<(), CopyError> {
        self.blobs_of(closure, node).await?;
        let tags = closure.tags.get(&node.digest());
        // Under its tag it is there under its digest as well.
        if tags.is_none() || node.view.subject.is_some() {
            self.write(closure, node, None).await?;
        }
        let tags = tags.into_iter().flatten().map(|tag| self.sign(closure, node, tag));
        try_join_all(tags).await.map(|_| ())
    }

    async fn blobs_of(&self, closure: &Closure, node: &Node) -> Result<(), CopyError> {
        let awaited: Vec<Awaited> = {
            let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
            closure.blobs_of(node).iter().filter_map(|blob| blobs.get(&blob.digest).cloned()).collect()
        };
        // In the order in which they come: the first that fails ends all.
        let mut awaited: FuturesUnordered<Awaited> = awaited.into_iter().collect();
        while awaited.try_next().await?.is_some() {}
        Ok(())
    }

    /// Writes a manifest. Where the target misses something that it was believed to have, that is brought again, first
    /// by asking for each blob and then without asking.
    async fn write(
        self: &Arc<Self>,
        closure: &Closure,
        node: &Arc<Node>,
        tag: Option<&Tag>,
    ) -> Result<ReferrerLink, CopyError> {
        let mut last = self.write_once(node, tag).await;
        for trust in [Trust::Answers, Trust::Nothing] {
            if !last.as_ref().is_err_and(CopyError::is_missing_content) {
                break;
            }
            tracing::warn!(manifest = %node.digest(), "the target misses content that it had; it is sent again");
            self.mend(closure, node, trust).await?;
            last = self.write_once(node, tag).await;
        }
        last
    }

    /// Brings again what a manifest points at.
    fn mend<'a>(
        self: &'a Arc<Self>,
        closure: &'a Closure,
        node: &'a Arc<Node>,
        trust: Trust,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        async move {
            let blobs = closure.blobs_of(node).into_iter().map(|blob| bring_again(self, blob, trust));
            try_join_all(blobs).await?;
            for child in closure.children(node) {
                let mut pushed = self.push(child, None).await;
                if pushed.as_ref().is_err_and(CopyError::is_missing_content) {
                    self.mend(closure, child, trust).await?;
                    pushed = self.push(child, None).await;
                }
                self.destination().note(child.digest(), pushed?);
            }
            Ok(())
        }
        .boxed()
    }

    /// By tag always; by digest once in a batch, and not if it is there already.
    async fn write_once(&self, node: &Node, tag: Option<&Tag>) -> Result<ReferrerLink, CopyError> {
        if tag.is_some() {
            return self.push(node, tag).await;
        }
        let cell = self.destination().cell(node.digest());
        let write = || async {
            // Only the answer to a PUT tells whether the target lists a referrer.
            let is_referrer = node.view.subject.is_some();
            let may_be_there = !is_referrer && !self.destination().is_empty();
            if may_be_there && self.find(&node.digest().into()).await? == Some(node.digest()) {
                return Ok(ReferrerLink::Listed);
            }
            self.push(node, None).await
        };
        cell.get_or_try_init(write).await.copied()
    }

    /// A signature's tag is written once in a batch, and left alone where it is right already.
    async fn sign(self: &Arc<Self>, closure: &Closure, node: &Arc<Node>, tag: &Tag) -> Result<(), CopyError> {
        let write = || async {
            let may_be_there = !self.destination().is_empty();
            let there = if may_be_there { self.find(&tag.clone().into()).await? } else { None };
            if there == Some(node.digest()) {
                return Ok(());
            }
            let intended = self.signature_arrival(node, tag, there);
            self.intend(self.batch.ledger(), &with_manifest(intended, node)).await?;
            self.write(closure, node, Some(tag)).await?;
            let arrival = self.signature_arrival(node, tag, there);
            let arrival = with_manifest(arrival, node);
            self.take_out(&arrival);
            self.batch.tell(Event::SignatureArrived(Box::new(arrival))).await;
            Ok(())
        };
        self.destination().signed(tag).get_or_try_init(write).await.map(|_| ())
    }

    /// What the target has, as far as it lets anybody look: where it does not, the write is tried, and its answer decides.
    async fn find(&self, reference: &ManifestRef) -> Result<Option<Digest>, CopyError> {
        match self.target().resolve(reference).await {
            Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
            Err(error) if error.is_transient() || error.quota_spent().is_some() => Err(CopyError::target(error)),
            Err(error) => {
                if self.destination().is_first_unreadable() {
                    tracing::warn!(%error, "the target does not say what it has: manifests are written whatever is there");
                }
                Ok(None)
            }
        }
    }

    async fn push(&self, node: &Node, tag: Option<&Tag>) -> Result<ReferrerLink, CopyError> {
        let link = self.target().push_manifest(&node.manifest, tag).await.map_err(CopyError::target)?;
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.bytes += node.manifest.bytes().len() as u64;
        Ok(link)
    }
}
