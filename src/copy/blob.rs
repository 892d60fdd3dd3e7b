//! Brings blobs to the targets of an order: found, mounted, or sent from one read for all of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::closure::Finds;
use super::deliver::Delivery;
use super::event::BlobOutcome;
use super::flight::{Claim, Duty};
use super::lane::{Lane, Race};
use super::nodes::Node;
use super::sending::{Wanting, send};
use super::share::{Share, take_alone};
use super::{Batch, CopyError, reading, suspension, tee};
use crate::oci::{Descriptor, Digest};
use crate::store::{Sought, Verified};

/// How long a target that is ready for a blob's bytes waits for siblings to join the read before it is looked whether they
/// keep up.
const RENDEZVOUS: Duration = Duration::from_secs(1);

/// How often it waits on for those that do: the order of requests is not the same at all registries.
const RENDEZVOUS_TIMES: usize = 10;

/// Why a target is said to be slow that has not opened its upload in time.
const LATE: &str = "it brought less than half of what another did, and was late to open an upload";

/// How many blobs of one order are on their way at a time: enough for every connection, and few enough that an image of which all
/// layers are missing ends after the first of them.
const BLOBS_AT_ONCE: usize = 256;

/// How much of what is known of a target is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// What this process has seen arrive there.
    Memory,
    /// Only what the target answers when it is asked.
    Answers,
    /// Nothing: a blob is sent whatever is said of it.
    Nothing,
}

/// The blobs of one order, each brought once to all its targets.
pub(super) struct Blobs {
    batch: Arc<Batch>,
    deliveries: Vec<Arc<Delivery>>,
    begun: Mutex<HashSet<Digest>>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Blobs {
    pub(super) fn new(batch: Arc<Batch>, deliveries: Vec<Arc<Delivery>>, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(BLOBS_AT_ONCE));
        Self { batch, deliveries, begun: Mutex::default(), places, stop }
    }
}

impl Finds for Blobs {
    /// Begins to bring the blobs of a manifest.
    fn manifest(&self, node: &Node, is_required: bool) {
        node.blobs().into_iter().for_each(|blob| self.blob(blob, is_required));
    }

    /// Begins to bring a blob. The deliveries are told what to wait for before this returns.
    fn blob(&self, blob: &Descriptor, is_required: bool) {
        if !self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest) {
            return;
        }
        let told = self.deliveries.iter().map(|delivery| Told::new(delivery, blob.digest, is_required)).collect();
        let (batch, blob, places) = (self.batch.clone(), blob.clone(), self.places.clone());
        let job = async move {
            // Before anything is claimed: who leads at a target does not wait for a place. Nobody closes the semaphore.
            let _place = places.acquire().await;
            bring_to_all(batch, blob, told).await;
        };
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(job).await }.in_current_span());
    }
}

/// A delivery that waits to be told that a blob is there.
struct Told {
    delivery: Arc<Delivery>,
    answer: oneshot::Sender<Result<(), CopyError>>,
    /// Whether the delivery fails without the blob.
    is_required: bool,
}

impl Told {
    fn new(delivery: &Arc<Delivery>, digest: Digest, is_required: bool) -> Self {
        let (answer, waiting) = oneshot::channel();
        delivery.expect(digest, waiting);
        Self { delivery: delivery.clone(), answer, is_required }
    }

    fn tell(self, result: Result<(), CopyError>) {
        if let (Err(error), true) = (&result, self.is_required) {
            self.delivery.fail(error.clone());
        }
        // The delivery may have failed and gone.
        let _ = self.answer.send(result);
    }
}

/// A target that is being readied: settled, failed, or in want of bytes; and which of the targets it is.
type Readying = BoxFuture<'static, (usize, Result<Option<Wanting>, CopyError>, Told)>;

/// What is known of the blob at each target decides at once and for all of them who is to bring it there: were they asked
/// one after the other, two orders could each get some of the targets, and both would read the blob.
async fn bring_to_all(batch: Arc<Batch>, blob: Descriptor, told: Vec<Told>) {
    let places = told.iter().map(|told| told.delivery.place()).collect::<Vec<_>>();
    let claims = batch.copier.flights.claim_each(&places, &blob, &batch.source.scope());
    let (mut duties, mut waiting) = (Vec::new(), Vec::new());
    for (told, claim) in told.into_iter().zip(claims) {
        match claim {
            Claim::Present(_) => told.tell(Ok(())),
            Claim::Lead(lead) => duties.push((Duty::new(lead, told.delivery.lane()), told)),
            Claim::Wait(other) => waiting.push((other, told)),
        }
    }
    let following = waiting.into_iter().map(|(waiting, told)| async {
        waiting.over().await;
        let brought = bring_again(&told.delivery, &blob, Trust::Memory).await;
        told.tell(brought);
    });
    join(bring_together(&batch, &blob, duties), join_all(following)).await;
}

/// Readies all targets, then feeds those that need the bytes from one read. Who is late, or fell behind before, reads alone.
async fn bring_together(batch: &Arc<Batch>, blob: &Descriptor, duties: Vec<(Duty, Told)>) {
    let lanes: Vec<_> = duties.iter().map(|(_, told)| told.delivery.lane().cloned()).collect();
    let chunk = duties.iter().map(|(_, told)| told.delivery.target().upload_holds()).max().unwrap_or_default();
    let share = Share::new(&batch.copier, blob.size, chunk, lanes.clone());
    let (together, late) = gather(blob, duties, lanes, &share).await;
    share.close();
    let late = late.into_iter().map(|readying| send_alone(batch, blob, readying));
    join(send_together(batch, blob, together), join_all(late)).await;
}

/// Readies targets until all are settled or ready, or those that are ready have waited long enough: whoever does not keep up
/// then fell behind.
async fn gather(
    blob: &Descriptor,
    duties: Vec<(Duty, Told)>,
    lanes: Vec<Option<Arc<Lane>>>,
    share: &Arc<Share>,
) -> (Vec<(Wanting, Told)>, FuturesUnordered<Readying>) {
    let mut awaited = lanes;
    let ready = |(at, (duty, told))| ready(at, told, blob.clone(), duty, share.clone()).boxed();
    let mut readying: FuturesUnordered<Readying> = duties.into_iter().enumerate().map(ready).collect();
    let mut together = Vec::new();
    let mut race = Race::of(awaited.iter().flatten());
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
                awaited.iter().flatten().filter(|lane| race.is_lost_by(lane)).for_each(|lane| lane.fall_behind(LATE));
                looks.as_mut().reset(Instant::now() + RENDEZVOUS);
                looked += 1;
                if looked < RENDEZVOUS_TIMES { continue } else { break }
            }
        };
        let Some((at, prepared, told)) = readied else { break };
        awaited[at] = None;
        match prepared {
            Ok(Some(wanting)) => {
                if !somebody_waits {
                    race.start();
                    looks.as_mut().reset(Instant::now() + RENDEZVOUS);
                }
                together.push((wanting, told));
            }
            settled => told.tell(settled.map(|_| ())),
        }
    }
    (together, readying)
}

async fn send_alone(batch: &Arc<Batch>, blob: &Descriptor, pending: Readying) {
    match pending.await {
        (_, Ok(Some(wanting)), told) => told.tell(send(blob, wanting, tee::alone(&batch.source, blob)).await),
        (_, settled, told) => told.tell(settled.map(|_| ())),
    }
}

async fn ready(
    at: usize,
    told: Told,
    blob: Descriptor,
    duty: Duty,
    share: Arc<Share>,
) -> (usize, Result<Option<Wanting>, CopyError>, Told) {
    let span = told.delivery.span().clone();
    (at, prepare(&told.delivery, &blob, duty, Some(&share), Trust::Memory).instrument(span).await, told)
}

async fn send_together(batch: &Arc<Batch>, blob: &Descriptor, wanting: Vec<(Wanting, Told)>) {
    let lanes = wanting.iter().map(|(_, told)| told.delivery.lane().cloned()).collect();
    let branches = tee::split(&batch.source, blob, lanes);
    let sending = wanting.into_iter().zip(branches).map(|((wanting, told), branch)| async move {
        told.tell(send(blob, wanting, branch).await);
    });
    join_all(sending).await;
}

/// Brings one blob to one target alone.
pub(super) async fn bring_again(delivery: &Arc<Delivery>, blob: &Descriptor, trust: Trust) -> Result<(), CopyError> {
    match claim(delivery, blob, trust).await {
        Some(duty) => bring_alone(delivery, blob, duty, trust).instrument(delivery.span().clone()).await,
        None => Ok(()),
    }
}

async fn bring_alone(delivery: &Arc<Delivery>, blob: &Descriptor, duty: Duty, trust: Trust) -> Result<(), CopyError> {
    match prepare(delivery, blob, duty, None, trust).await? {
        Some(wanting) => send(blob, wanting, tee::alone(&delivery.batch.source, blob)).await,
        None => Ok(()),
    }
}

/// Finds or mounts the blob; else opens an upload. Without a share it is to be read alone.
async fn prepare(
    delivery: &Arc<Delivery>,
    blob: &Descriptor,
    duty: Duty,
    share: Option<&Arc<Share>>,
    trust: Trust,
) -> Result<Option<Wanting>, CopyError> {
    if delivery.has_given_up() {
        return Err(CopyError::Interrupted);
    }
    let (target, source) = (delivery.target(), &delivery.batch.source);
    let from = match duty.mount_from() {
        // A mount may have been what was not so.
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
    // Also where nothing is listed: the first copy of all may have been cut off.
    let left = match may_be_there {
        true => suspension::resumed(&delivery.batch, target.as_ref(), blob).await,
        false => None,
    };
    // What moves no bytes in the end does not wait for those who do.
    let (sought, early) = if let Some(left) = left {
        (left, None)
    } else if must_ask {
        (target.find_or_begin(blob).await, None)
    } else {
        let early = if from.is_none() { Some(take().await) } else { None };
        (target.begin_upload(blob, from.as_ref()).await.map(Sought::from), early)
    };
    let sought = match sought.map_err(CopyError::target)? {
        Sought::OtherLength(stored) => keep_or_replace(delivery, blob, stored).await?,
        sought => sought,
    };
    let how = match sought {
        Sought::Session(upload) => {
            let part = match early {
                Some(part) => part,
                None => take().await,
            };
            return Ok(Some(Wanting { delivery: delivery.clone(), duty, upload, part }));
        }
        Sought::Found | Sought::OtherLength(_) => BlobOutcome::Found,
        Sought::Mounted => BlobOutcome::Mounted,
    };
    if how == BlobOutcome::Mounted {
        delivery.brought(blob, how);
    }
    duty.arrived(how);
    Ok(None)
}

/// Decides what becomes of a blob that the target has in another length than its manifest states. If the source's bytes of that length
/// have the digest, the manifest is wrong and the blob is there; nothing is sent. Otherwise it is written again.
async fn keep_or_replace(delivery: &Delivery, blob: &Descriptor, stored: u64) -> Result<Sought, CopyError> {
    let (source, target) = (&delivery.batch.source, delivery.target());
    if source.blob_length(blob).await == Some(stored) {
        let stored = Descriptor { size: stored, ..blob.clone() };
        let _part = take_alone(&delivery.batch.copier, stored.size, 0, delivery.lane()).await;
        let bytes = reading::read(source.clone(), stored.clone(), 0);
        let verified = Verified::new(bytes, stored, source.place());
        if verified.all(|piece| std::future::ready(piece.is_ok())).await {
            tracing::debug!(target = target.place(), digest = %blob.digest, "a manifest states a wrong size of a blob that is there");
            return Ok(Sought::Found);
        }
    }
    Ok(target.begin_replacement(blob, stored).await.map_err(CopyError::target)?.into())
}

/// The duty to bring the blob, `None` when somebody else did.
async fn claim(delivery: &Delivery, blob: &Descriptor, trust: Trust) -> Option<Duty> {
    let place = delivery.place();
    let source = delivery.batch.source.scope();
    let flights = &delivery.batch.copier.flights;
    let begun = Instant::now();
    if trust != Trust::Memory {
        flights.forget(&place.0, &place.1, blob.digest);
    }
    loop {
        match flights.claim(&place, blob, &source) {
            // Somebody with more trust was told so meanwhile.
            Claim::Present(known) if trust == Trust::Nothing && !known.was_sent_since(begun) => {
                flights.forget(&place.0, &place.1, blob.digest);
            }
            Claim::Present(_) => return None,
            Claim::Lead(lead) => return Some(Duty::new(lead, delivery.lane())),
            Claim::Wait(waiting) => waiting.over().await,
        }
    }
}
