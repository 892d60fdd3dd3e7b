//! Transfer of blobs to the targets of an order: a blob is found, mounted, or sent from one read for all targets.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::reservation::{SharedReservation, take_alone};
use super::send::{ReadyTarget, send};
use super::single_flight::{Claim, Owner};
use super::stragglers::{ProgressComparison, ProgressTracker};
use super::{fan_out, read, suspension};
use crate::copy::closure::SurveyListener;
use crate::copy::deliver::Delivery;
use crate::copy::event::BlobOutcome;
use crate::copy::manifest_cache::Node;
use crate::copy::{Batch, CopyError};
use crate::oci::{Descriptor, Digest};
use crate::store::{BlobLookup, Verified};

/// Time that the targets that are ready for a blob's bytes wait for their siblings to join the read. After each wait,
/// the siblings that do not keep up fall behind.
const RENDEZVOUS: Duration = Duration::from_secs(1);

/// Maximum number of waits for siblings. A sibling that keeps up may still be late for one blob, because registries do
/// not receive the requests for all blobs in the same order.
const RENDEZVOUS_TIMES: usize = 10;

/// Reason logged for a target that has not opened its upload in time.
const LATE_REASON: &str =
    "the target finished less than half as many blobs as a sibling, and was late to open an upload";

/// Maximum number of blobs of one order that are transferred at the same time. The number is large enough to use every
/// connection, and small enough that an image whose layers are all missing fails after a part of its requests.
const BLOBS_AT_ONCE: usize = 256;

/// Degree of trust in the information about the blobs of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Trust the records of this process: a blob that arrived at the target is still present.
    Memory,
    /// Trust only the target's responses to requests.
    Responses,
    /// Trust nothing: send the blob even if the target reports it as present.
    Nothing,
}

/// Blobs of one order. Each is transferred once to all targets of the order.
pub(crate) struct Blobs {
    batch: Arc<Batch>,
    deliveries: Vec<Arc<Delivery>>,
    started: Mutex<HashSet<Digest>>,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Blobs {
    pub(crate) fn new(batch: Arc<Batch>, deliveries: Vec<Arc<Delivery>>, stop: CancellationToken) -> Self {
        let permits = Arc::new(Semaphore::new(BLOBS_AT_ONCE));
        Self { batch, deliveries, started: Mutex::default(), permits, stop }
    }
}

impl SurveyListener for Blobs {
    /// Starts the transfer of the blobs of a manifest.
    fn on_manifest(&self, node: &Node, is_required: bool) {
        node.blobs().into_iter().for_each(|blob| self.on_blob(blob, is_required));
    }

    /// Starts the transfer of a blob. Before this function returns, each delivery has recorded that it waits for the
    /// transfer.
    fn on_blob(&self, blob: &Descriptor, is_required: bool) {
        if !self.started.lock().insert(blob.digest) {
            return;
        }
        let waiters = self.deliveries.iter().map(|delivery| BlobWaiter::new(delivery, blob, is_required)).collect();
        let (batch, blob, permits) = (self.batch.clone(), blob.clone(), self.permits.clone());
        let job = async move {
            // The permit is acquired before any claim, so that the owner of a claim never waits for a permit. The
            // semaphore is never closed.
            let _permit = permits.acquire().await;
            copy_to_all(batch, blob, waiters).await;
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(job).await }.in_current_span());
    }
}

/// Delivery that waits for the result of a blob's transfer.
struct BlobWaiter {
    delivery: Arc<Delivery>,
    digest: Digest,
    size: u64,
    result: oneshot::Sender<Result<(), CopyError>>,
    /// True if the delivery fails without the blob.
    is_required: bool,
}

impl BlobWaiter {
    fn new(delivery: &Arc<Delivery>, blob: &Descriptor, is_required: bool) -> Self {
        let (result, awaited) = oneshot::channel();
        delivery.expect_blob(blob.digest, awaited);
        delivery.batch.planned_bytes().add(blob.size);
        Self { delivery: delivery.clone(), digest: blob.digest, size: blob.size, result, is_required }
    }

    fn report(self, result: Result<(), CopyError>) {
        if result.is_err() || !self.delivery.has_sent(&self.digest) {
            self.delivery.batch.planned_bytes().remove(self.size);
        }
        if let (Err(error), true) = (&result, self.is_required) {
            self.delivery.fail(error.clone());
        }
        // The delivery may have failed and been dropped.
        let _ = self.result.send(result);
    }
}

/// Preparation of a target. Returns the index of the target, and one of these results: the target is ready for bytes,
/// the target needs no bytes (`None`), or an error.
type Preparation = BoxFuture<'static, (usize, Result<Option<ReadyTarget>, CopyError>, BlobWaiter)>;

/// Transfers a blob to all targets. The blob is claimed at all targets at once. If the targets were claimed one after
/// the other, two orders could each get some of the targets, and both would read the blob.
async fn copy_to_all(batch: Arc<Batch>, blob: Descriptor, waiters: Vec<BlobWaiter>) {
    let places = waiters.iter().map(|waiter| waiter.delivery.place()).collect::<Vec<_>>();
    let claims = batch.copier.flights.claim_each(&places, &blob, &batch.source.scope());
    let (mut owners, mut waiting) = (Vec::new(), Vec::new());
    for (waiter, claim) in waiters.into_iter().zip(claims) {
        match claim {
            Claim::Present(_) => waiter.report(Ok(())),
            Claim::Owned(ownership) => owners.push((Owner::new(ownership, waiter.delivery.tracker()), waiter)),
            Claim::Wait(other) => waiting.push((other, waiter)),
        }
    }
    let waiters_done = waiting.into_iter().map(|(waiting, waiter)| async {
        waiting.wait().await;
        let result = copy_again(&waiter.delivery, &blob, Trust::Memory).await;
        waiter.report(result);
    });
    join(copy_together(&batch, &blob, owners), join_all(waiters_done)).await;
}

/// Prepares all targets, then feeds the targets that need the bytes from one read. A target that is late or has fallen
/// behind reads separately.
async fn copy_together(batch: &Arc<Batch>, blob: &Descriptor, owners: Vec<(Owner, BlobWaiter)>) {
    let trackers: Vec<_> = owners.iter().map(|(_, waiter)| waiter.delivery.tracker().cloned()).collect();
    let chunk = owners.iter().map(|(_, waiter)| waiter.delivery.target().upload_holds()).max().unwrap_or_default();
    let shared = SharedReservation::new(&batch.copier, blob.size, chunk, trackers.clone());
    let (ready_targets, late) = gather_ready(blob, owners, trackers, &shared).await;
    shared.close();
    let late = late.into_iter().map(|preparation| send_alone(batch, blob, preparation));
    join(send_shared(batch, blob, ready_targets), join_all(late)).await;
}

/// Prepares the targets until each of them has the blob, has failed or is ready for bytes, or until the ready targets
/// have waited long enough. Returns the ready targets and the unfinished preparations. Targets that do not keep up have
/// fallen behind by then.
async fn gather_ready(
    blob: &Descriptor,
    owners: Vec<(Owner, BlobWaiter)>,
    trackers: Vec<Option<Arc<ProgressTracker>>>,
    shared: &Arc<SharedReservation>,
) -> (Vec<(ReadyTarget, BlobWaiter)>, FuturesUnordered<Preparation>) {
    let mut awaited = trackers;
    let ready = |(index, (owner, waiter))| prepare_shared(index, waiter, blob.clone(), owner, shared.clone()).boxed();
    let mut preparations: FuturesUnordered<Preparation> = owners.into_iter().enumerate().map(ready).collect();
    let mut ready_targets = Vec::new();
    let mut comparison = ProgressComparison::new(awaited.iter().flatten());
    let (check, mut checks) = (tokio::time::sleep(Duration::MAX), 0);
    tokio::pin!(check);
    loop {
        let sibling_waits = !ready_targets.is_empty();
        if sibling_waits && awaited.iter().flatten().all(|tracker| tracker.is_behind()) {
            break;
        }
        let prepared = tokio::select! {
            prepared = preparations.next() => prepared,
            () = &mut check, if sibling_waits => {
                let behind = awaited.iter().flatten().filter(|tracker| comparison.is_behind(tracker));
                behind.for_each(|tracker| tracker.mark_behind(LATE_REASON));
                check.as_mut().reset(Instant::now() + RENDEZVOUS);
                checks += 1;
                if checks < RENDEZVOUS_TIMES { continue } else { break }
            }
        };
        let Some((index, prepared, waiter)) = prepared else { break };
        awaited[index] = None;
        match prepared {
            Ok(Some(ready)) => {
                if !sibling_waits {
                    comparison.restart();
                    check.as_mut().reset(Instant::now() + RENDEZVOUS);
                }
                ready_targets.push((ready, waiter));
            }
            result => waiter.report(result.map(|_| ())),
        }
    }
    (ready_targets, preparations)
}

async fn send_alone(batch: &Arc<Batch>, blob: &Descriptor, pending: Preparation) {
    match pending.await {
        (_, Ok(Some(ready)), waiter) => {
            waiter.report(send(blob, ready, fan_out::read_alone(&batch.source, blob)).await)
        }
        (_, result, waiter) => waiter.report(result.map(|_| ())),
    }
}

async fn prepare_shared(
    index: usize,
    waiter: BlobWaiter,
    blob: Descriptor,
    owner: Owner,
    shared: Arc<SharedReservation>,
) -> (usize, Result<Option<ReadyTarget>, CopyError>, BlobWaiter) {
    let span = waiter.delivery.span().clone();
    (index, prepare(&waiter.delivery, &blob, owner, Some(&shared), Trust::Memory).instrument(span).await, waiter)
}

async fn send_shared(batch: &Arc<Batch>, blob: &Descriptor, ready: Vec<(ReadyTarget, BlobWaiter)>) {
    let trackers = ready.iter().map(|(_, waiter)| waiter.delivery.tracker().cloned()).collect();
    let branches = fan_out::split(&batch.source, blob, trackers);
    let sending = ready.into_iter().zip(branches).map(|((ready, waiter), branch)| async move {
        waiter.report(send(blob, ready, branch).await);
    });
    join_all(sending).await;
}

/// Transfers one blob to one target, with a separate read.
pub(crate) async fn copy_again(delivery: &Arc<Delivery>, blob: &Descriptor, trust: Trust) -> Result<(), CopyError> {
    match claim_blob(delivery, blob, trust).await {
        Some(owner) => copy_alone(delivery, blob, owner, trust).instrument(delivery.span().clone()).await,
        None => Ok(()),
    }
}

async fn copy_alone(delivery: &Arc<Delivery>, blob: &Descriptor, owner: Owner, trust: Trust) -> Result<(), CopyError> {
    match prepare(delivery, blob, owner, None, trust).await? {
        Some(ready) => send(blob, ready, fan_out::read_alone(&delivery.batch.source, blob)).await,
        None => Ok(()),
    }
}

/// Finds or mounts the blob, or else opens an upload. Returns `None` if the target has the blob. Without a shared
/// reservation, the target reads the blob separately.
async fn prepare(
    delivery: &Arc<Delivery>,
    blob: &Descriptor,
    owner: Owner,
    shared: Option<&Arc<SharedReservation>>,
    trust: Trust,
) -> Result<Option<ReadyTarget>, CopyError> {
    if delivery.has_ended() {
        return Err(CopyError::Interrupted);
    }
    let (target, source) = (delivery.target(), &delivery.batch.source);
    let from = match owner.mount_from() {
        // An earlier mount may have been reported wrongly.
        _ if trust != Trust::Memory => None,
        Some(sibling) => Some(sibling.clone()),
        None if source.scope() == target.scope() => source.repository().cloned(),
        None => None,
    };
    let is_known_absent = delivery.destination().is_empty() && trust == Trust::Memory;
    let may_exist = from.is_none() && trust != Trust::Nothing;
    let must_query = may_exist && !is_known_absent;
    let take = || async {
        match shared {
            Some(shared) => shared.take(delivery.tracker()).await,
            None => take_alone(&delivery.batch.copier, blob.size, target.upload_holds(), delivery.tracker()).await,
        }
    };
    // An upload may be saved for an empty target too: the first copy to it may have been interrupted.
    let resumed = match may_exist {
        true => suspension::resume_or_restart(&delivery.batch, target.as_ref(), blob).await,
        false => None,
    };
    // The transfer waits for memory early only if it will certainly send bytes.
    let (lookup, reservation) = if let Some(resumed) = resumed {
        (resumed, None)
    } else if must_query {
        (target.find_or_begin(blob).await, None)
    } else {
        let reservation = if from.is_none() { Some(take().await) } else { None };
        (target.begin_upload(blob, from.as_ref()).await.map(BlobLookup::from), reservation)
    };
    let lookup = match lookup.map_err(CopyError::target)? {
        BlobLookup::OtherLength(stored) => keep_or_replace(delivery, blob, stored).await?,
        lookup => lookup,
    };
    let outcome = match lookup {
        BlobLookup::Session(upload) => {
            let reservation = match reservation {
                Some(reservation) => reservation,
                None => take().await,
            };
            return Ok(Some(ReadyTarget { delivery: delivery.clone(), owner, upload, reservation }));
        }
        BlobLookup::Found | BlobLookup::OtherLength(_) => BlobOutcome::Found,
        BlobLookup::Mounted => BlobOutcome::Mounted,
    };
    if outcome == BlobOutcome::Mounted {
        delivery.record_blob(blob, outcome);
    }
    owner.record_arrival(outcome);
    Ok(None)
}

/// Keeps or replaces a blob whose length at the target differs from the size in the manifest:
/// - If the source has the blob with the length of the target's blob, and the source's bytes have the digest, then the
///   manifest is wrong. The blob at the target is kept.
/// - Otherwise the blob is sent again.
async fn keep_or_replace(delivery: &Delivery, blob: &Descriptor, stored: u64) -> Result<BlobLookup, CopyError> {
    let (source, target) = (&delivery.batch.source, delivery.target());
    if source.blob_length(blob).await == Some(stored) {
        let stored = Descriptor { size: stored, ..blob.clone() };
        let _reservation = take_alone(&delivery.batch.copier, stored.size, 0, delivery.tracker()).await;
        let bytes = read::read(source.clone(), stored.clone(), 0);
        let verified = Verified::new(bytes, stored, source.place());
        if verified.all(|piece| std::future::ready(piece.is_ok())).await {
            tracing::debug!(
                target = target.place(), digest = %blob.digest,
                "the manifest states a wrong size; the target has the blob"
            );
            return Ok(BlobLookup::Found);
        }
    }
    Ok(target.begin_replacement(blob, stored).await.map_err(CopyError::target)?.into())
}

/// Claims the blob for the target. Returns `None` if another transfer has brought the blob to the target.
async fn claim_blob(delivery: &Delivery, blob: &Descriptor, trust: Trust) -> Option<Owner> {
    let place = delivery.place();
    let source = delivery.batch.source.scope();
    let flights = &delivery.batch.copier.flights;
    let started = Instant::now();
    if trust != Trust::Memory {
        flights.forget(&place.0, &place.1, blob.digest);
    }
    loop {
        match flights.claim(&place, blob, &source) {
            // Another transfer, which trusts the target's responses, has recorded the blob as present in the meantime.
            Claim::Present(record) if trust == Trust::Nothing && !record.was_sent_since(started) => {
                flights.forget(&place.0, &place.1, blob.digest);
            }
            Claim::Present(_) => return None,
            Claim::Owned(ownership) => return Some(Owner::new(ownership, delivery.tracker())),
            Claim::Wait(waiting) => waiting.wait().await,
        }
    }
}
