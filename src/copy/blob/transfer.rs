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
use super::send::{Wanting, send};
use super::single_flight::{Claim, Owner};
use super::stragglers::{Lane, Race};
use super::{fan_out, read, resume};
use crate::copy::closure::SurveyListener;
use crate::copy::deliver::Delivery;
use crate::copy::event::BlobOutcome;
use crate::copy::manifest_cache::Node;
use crate::copy::{Batch, CopyError};
use crate::oci::{Descriptor, Digest};
use crate::store::{BlobLookup, Verified};

/// Time that a target that is ready for a blob's bytes waits for its siblings to join the read. Then the code checks
/// which siblings keep up.
const RENDEZVOUS: Duration = Duration::from_secs(1);

/// Number of further waits for siblings that keep up: registries do not get their requests in the same order.
const RENDEZVOUS_TIMES: usize = 10;

/// Reason logged for a target that has not opened its upload in time.
const LATE: &str = "it brought less than half of what another did, and was late to open an upload";

/// Maximum number of blobs of one order that are transferred at the same time. This number suffices to use every
/// connection. It is so small that an image without any of its layers fails after the first of them.
const BLOBS_AT_ONCE: usize = 256;

/// Degree of trust in the known facts about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Trust the blobs that this process has seen arrive at the target.
    Memory,
    /// Trust only the target's answers to requests.
    Answers,
    /// Trust nothing: send the blob whatever the target answers.
    Nothing,
}

/// Blobs of one order. Each is transferred once to all targets of the order.
pub(crate) struct Blobs {
    batch: Arc<Batch>,
    deliveries: Vec<Arc<Delivery>>,
    begun: Mutex<HashSet<Digest>>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Blobs {
    pub(crate) fn new(batch: Arc<Batch>, deliveries: Vec<Arc<Delivery>>, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(BLOBS_AT_ONCE));
        Self { batch, deliveries, begun: Mutex::default(), places, stop }
    }
}

impl SurveyListener for Blobs {
    /// Starts the transfer of the blobs of a manifest.
    fn on_manifest(&self, node: &Node, is_required: bool) {
        node.blobs().into_iter().for_each(|blob| self.on_blob(blob, is_required));
    }

    /// Starts the transfer of a blob. Before this function returns, the deliveries know which transfers they wait for.
    fn on_blob(&self, blob: &Descriptor, is_required: bool) {
        if !self.begun.lock().insert(blob.digest) {
            return;
        }
        let waiters =
            self.deliveries.iter().map(|delivery| BlobWaiter::new(delivery, blob.digest, is_required)).collect();
        let (batch, blob, places) = (self.batch.clone(), blob.clone(), self.places.clone());
        let job = async move {
            // The permit is acquired before any claim: the owner of a claim does not wait for a permit. Nobody closes
            // the semaphore.
            let _place = places.acquire().await;
            copy_to_all(batch, blob, waiters).await;
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(job).await }.in_current_span());
    }
}

/// Delivery that waits for the result of a blob's transfer.
struct BlobWaiter {
    delivery: Arc<Delivery>,
    answer: oneshot::Sender<Result<(), CopyError>>,
    /// True if the delivery fails without the blob.
    is_required: bool,
}

impl BlobWaiter {
    fn new(delivery: &Arc<Delivery>, digest: Digest, is_required: bool) -> Self {
        let (answer, waiting) = oneshot::channel();
        delivery.expect_blob(digest, waiting);
        Self { delivery: delivery.clone(), answer, is_required }
    }

    fn report(self, result: Result<(), CopyError>) {
        if let (Err(error), true) = (&result, self.is_required) {
            self.delivery.fail(error.clone());
        }
        // The delivery may have failed and been dropped.
        let _ = self.answer.send(result);
    }
}

/// Target whose upload is being prepared, with its index. The preparation succeeds without bytes, fails, or makes the
/// target ready for bytes.
type Readying = BoxFuture<'static, (usize, Result<Option<Wanting>, CopyError>, BlobWaiter)>;

/// Transfers a blob to all targets. The blob is claimed at all targets at once. If the targets were claimed one after
/// the other, two orders could each get some of the targets, and both would read the blob.
async fn copy_to_all(batch: Arc<Batch>, blob: Descriptor, waiters: Vec<BlobWaiter>) {
    let places = waiters.iter().map(|waiter| waiter.delivery.place()).collect::<Vec<_>>();
    let claims = batch.copier.flights.claim_each(&places, &blob, &batch.source.scope());
    let (mut duties, mut waiting) = (Vec::new(), Vec::new());
    for (waiter, claim) in waiters.into_iter().zip(claims) {
        match claim {
            Claim::Present(_) => waiter.report(Ok(())),
            Claim::Lead(lead) => duties.push((Owner::new(lead, waiter.delivery.lane()), waiter)),
            Claim::Wait(other) => waiting.push((other, waiter)),
        }
    }
    let following = waiting.into_iter().map(|(waiting, waiter)| async {
        waiting.wait().await;
        let brought = copy_again(&waiter.delivery, &blob, Trust::Memory).await;
        waiter.report(brought);
    });
    join(copy_together(&batch, &blob, duties), join_all(following)).await;
}

/// Prepares all targets, then feeds the targets that need the bytes from one read. A target that is late, or fell
/// behind before, reads alone.
async fn copy_together(batch: &Arc<Batch>, blob: &Descriptor, duties: Vec<(Owner, BlobWaiter)>) {
    let lanes: Vec<_> = duties.iter().map(|(_, waiter)| waiter.delivery.lane().cloned()).collect();
    let chunk = duties.iter().map(|(_, waiter)| waiter.delivery.target().upload_holds()).max().unwrap_or_default();
    let share = SharedReservation::new(&batch.copier, blob.size, chunk, lanes.clone());
    let (together, late) = gather_ready(blob, duties, lanes, &share).await;
    share.close();
    let late = late.into_iter().map(|readying| send_alone(batch, blob, readying));
    join(send_shared(batch, blob, together), join_all(late)).await;
}

/// Prepares targets until each has the blob, has failed or is ready for bytes, or until the ready ones have waited long
/// enough. Targets that do not keep up have then fallen behind.
async fn gather_ready(
    blob: &Descriptor,
    duties: Vec<(Owner, BlobWaiter)>,
    lanes: Vec<Option<Arc<Lane>>>,
    share: &Arc<SharedReservation>,
) -> (Vec<(Wanting, BlobWaiter)>, FuturesUnordered<Readying>) {
    let mut awaited = lanes;
    let ready = |(at, (duty, waiter))| prepare_shared(at, waiter, blob.clone(), duty, share.clone()).boxed();
    let mut readying: FuturesUnordered<Readying> = duties.into_iter().enumerate().map(ready).collect();
    let mut together = Vec::new();
    let mut race = Race::new(awaited.iter().flatten());
    let (looks, mut looked) = (tokio::time::sleep(Duration::MAX), 0);
    tokio::pin!(looks);
    loop {
        let somebody_waits = !together.is_empty();
        if somebody_waits && awaited.iter().flatten().all(|lane| lane.is_behind()) {
            break;
        }
        let readied = tokio::select! {
            readied = readying.next() => readied,
            () = &mut looks, if somebody_waits => {
                awaited.iter().flatten().filter(|lane| race.is_lost_by(lane)).for_each(|lane| lane.mark_behind(LATE));
                looks.as_mut().reset(Instant::now() + RENDEZVOUS);
                looked += 1;
                if looked < RENDEZVOUS_TIMES { continue } else { break }
            }
        };
        let Some((at, prepared, waiter)) = readied else { break };
        awaited[at] = None;
        match prepared {
            Ok(Some(wanting)) => {
                if !somebody_waits {
                    race.start();
                    looks.as_mut().reset(Instant::now() + RENDEZVOUS);
                }
                together.push((wanting, waiter));
            }
            settled => waiter.report(settled.map(|_| ())),
        }
    }
    (together, readying)
}

async fn send_alone(batch: &Arc<Batch>, blob: &Descriptor, pending: Readying) {
    match pending.await {
        (_, Ok(Some(wanting)), waiter) => {
            waiter.report(send(blob, wanting, fan_out::read_alone(&batch.source, blob)).await)
        }
        (_, settled, waiter) => waiter.report(settled.map(|_| ())),
    }
}

async fn prepare_shared(
    at: usize,
    waiter: BlobWaiter,
    blob: Descriptor,
    duty: Owner,
    share: Arc<SharedReservation>,
) -> (usize, Result<Option<Wanting>, CopyError>, BlobWaiter) {
    let span = waiter.delivery.span().clone();
    (at, prepare(&waiter.delivery, &blob, duty, Some(&share), Trust::Memory).instrument(span).await, waiter)
}

async fn send_shared(batch: &Arc<Batch>, blob: &Descriptor, wanting: Vec<(Wanting, BlobWaiter)>) {
    let lanes = wanting.iter().map(|(_, waiter)| waiter.delivery.lane().cloned()).collect();
    let branches = fan_out::split(&batch.source, blob, lanes);
    let sending = wanting.into_iter().zip(branches).map(|((wanting, waiter), branch)| async move {
        waiter.report(send(blob, wanting, branch).await);
    });
    join_all(sending).await;
}

/// Transfers one blob to one target, with a read of its own.
pub(crate) async fn copy_again(delivery: &Arc<Delivery>, blob: &Descriptor, trust: Trust) -> Result<(), CopyError> {
    match claim_blob(delivery, blob, trust).await {
        Some(duty) => copy_alone(delivery, blob, duty, trust).instrument(delivery.span().clone()).await,
        None => Ok(()),
    }
}

async fn copy_alone(delivery: &Arc<Delivery>, blob: &Descriptor, duty: Owner, trust: Trust) -> Result<(), CopyError> {
    match prepare(delivery, blob, duty, None, trust).await? {
        Some(wanting) => send(blob, wanting, fan_out::read_alone(&delivery.batch.source, blob)).await,
        None => Ok(()),
    }
}

/// Finds or mounts the blob, or else opens an upload. Without a share the blob is read by this target alone.
async fn prepare(
    delivery: &Arc<Delivery>,
    blob: &Descriptor,
    duty: Owner,
    share: Option<&Arc<SharedReservation>>,
    trust: Trust,
) -> Result<Option<Wanting>, CopyError> {
    if delivery.has_given_up() {
        return Err(CopyError::Interrupted);
    }
    let (target, source) = (delivery.target(), &delivery.batch.source);
    let from = match duty.mount_from() {
        // An earlier mount may have been reported wrongly.
        _ if trust != Trust::Memory => None,
        Some(sibling) => Some(sibling.clone()),
        None if source.scope() == target.scope() => source.repository().cloned(),
        None => None,
    };
    let is_known_absent = delivery.destination().is_empty() && trust == Trust::Memory;
    let may_be_there = from.is_none() && trust != Trust::Nothing;
    let must_ask = may_be_there && !is_known_absent;
    let take = || async {
        match share {
            Some(share) => share.take(delivery.lane()).await,
            None => take_alone(&delivery.batch.copier, blob.size, target.upload_holds(), delivery.lane()).await,
        }
    };
    // Also for an empty target: its very first copy may have been interrupted.
    let left = match may_be_there {
        true => resume::resume_or_restart(&delivery.batch, target.as_ref(), blob).await,
        false => None,
    };
    // If no bytes of the blob have to be sent, the transfer does not wait for memory.
    let (sought, early) = if let Some(left) = left {
        (left, None)
    } else if must_ask {
        (target.find_or_begin(blob).await, None)
    } else {
        let early = if from.is_none() { Some(take().await) } else { None };
        (target.begin_upload(blob, from.as_ref()).await.map(BlobLookup::from), early)
    };
    let sought = match sought.map_err(CopyError::target)? {
        BlobLookup::OtherLength(stored) => keep_or_replace(delivery, blob, stored).await?,
        sought => sought,
    };
    let how = match sought {
        BlobLookup::Session(upload) => {
            let part = match early {
                Some(part) => part,
                None => take().await,
            };
            return Ok(Some(Wanting { delivery: delivery.clone(), duty, upload, part }));
        }
        BlobLookup::Found | BlobLookup::OtherLength(_) => BlobOutcome::Found,
        BlobLookup::Mounted => BlobOutcome::Mounted,
    };
    if how == BlobOutcome::Mounted {
        delivery.record_blob(blob, how);
    }
    duty.record_arrival(how);
    Ok(None)
}

/// Decides about a blob that the target has in another length than the manifest states:
/// - If the source's bytes of that length have the digest, the manifest is wrong and the blob is there. Nothing is
///   sent.
/// - Otherwise the blob is written again.
async fn keep_or_replace(delivery: &Delivery, blob: &Descriptor, stored: u64) -> Result<BlobLookup, CopyError> {
    let (source, target) = (&delivery.batch.source, delivery.target());
    if source.blob_length(blob).await == Some(stored) {
        let stored = Descriptor { size: stored, ..blob.clone() };
        let _part = take_alone(&delivery.batch.copier, stored.size, 0, delivery.lane()).await;
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

/// Claims the blob for the target. Returns `None` once another transfer has brought it there.
async fn claim_blob(delivery: &Delivery, blob: &Descriptor, trust: Trust) -> Option<Owner> {
    let place = delivery.place();
    let source = delivery.batch.source.scope();
    let flights = &delivery.batch.copier.flights;
    let begun = Instant::now();
    if trust != Trust::Memory {
        flights.forget(&place.0, &place.1, blob.digest);
    }
    loop {
        match flights.claim(&place, blob, &source) {
            // Another transfer, with more trust, has reported the blob as present in the meantime.
            Claim::Present(known) if trust == Trust::Nothing && !known.was_sent_since(begun) => {
                flights.forget(&place.0, &place.1, blob.digest);
            }
            Claim::Present(_) => return None,
            Claim::Lead(lead) => return Some(Owner::new(lead, delivery.lane())),
            Claim::Wait(waiting) => waiting.wait().await,
        }
    }
}
