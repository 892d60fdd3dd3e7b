//! Brings blobs to the targets of an order: found, mounted, or sent from one read for all of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::closure::Node;
use super::deliver::Delivery;
use super::event::{BlobOutcome, Event, Transfer};
use super::flight::{Claim, Lead};
use super::share::{Part, Share};
use super::{Batch, CopyError, reading, tee};
use crate::oci::{Descriptor, Digest};
use crate::store::{Begun, ByteStream, Upload, Verified};

/// How long a target that is ready for a blob's bytes waits for its siblings to join the read.
const RENDEZVOUS: Duration = Duration::from_millis(250);

/// How often the bytes of one blob are sent to one target before the tag fails.
const ATTEMPTS: u32 = 3;

/// The wait before a blob is sent again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);

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
    stop: CancellationToken,
}

impl Blobs {
    pub(super) fn new(batch: Arc<Batch>, deliveries: Vec<Arc<Delivery>>, stop: CancellationToken) -> Self {
        Self { batch, deliveries, begun: Mutex::default(), stop }
    }

    /// Begins to bring the blobs of a manifest. The deliveries are told what to wait for before this returns.
    pub(super) fn bring(&self, node: &Node) {
        for blob in node.blobs() {
            if !self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest) {
                continue;
            }
            let told = self.deliveries.iter().map(|delivery| Told::new(delivery, blob.digest)).collect();
            let job = bring_to_all(self.batch.clone(), blob.clone(), told);
            let stop = self.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(job).await });
        }
    }
}

/// A delivery that waits to be told that a blob is there.
struct Told {
    delivery: Arc<Delivery>,
    answer: oneshot::Sender<Result<(), CopyError>>,
}

impl Told {
    fn new(delivery: &Arc<Delivery>, digest: Digest) -> Self {
        let (answer, waiting) = oneshot::channel();
        delivery.expect(digest, waiting);
        Self { delivery: delivery.clone(), answer }
    }

    fn tell(self, result: Result<(), CopyError>) {
        // The delivery may have failed and gone.
        let _ = self.answer.send(result);
    }
}

/// A target that waits for bytes.
struct Wanting {
    delivery: Arc<Delivery>,
    lead: Lead,
    upload: Box<dyn Upload>,
    _memory: Part,
}

/// A target that is being readied: settled, failed, or in want of bytes.
type Readying = BoxFuture<'static, (Result<Option<Wanting>, CopyError>, Told)>;

/// Readies all targets, then feeds those that need the bytes from one read. Who is late reads alone.
async fn bring_to_all(batch: Arc<Batch>, blob: Descriptor, told: Vec<Told>) {
    let share = Share::new(&batch.copier, blob.size, told.len());
    let mut preparing: FuturesUnordered<Readying> =
        told.into_iter().map(|told| ready(told, blob.clone(), share.clone()).boxed()).collect();
    let mut together = Vec::new();
    let deadline = tokio::time::sleep(Duration::MAX);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            prepared = preparing.next() => match prepared {
                None => break,
                Some((Ok(Some(wanting)), told)) => {
                    if together.is_empty() {
                        deadline.as_mut().reset(Instant::now() + RENDEZVOUS);
                    }
                    together.push((wanting, told));
                }
                Some((settled, told)) => told.tell(settled.map(|_| ())),
            },
            () = &mut deadline, if !together.is_empty() => break,
        }
    }
    share.close();
    let late = preparing.into_iter().map(|pending| send_alone(&batch, &blob, pending));
    join(send_together(&batch, &blob, together), join_all(late)).await;
}

async fn send_alone(batch: &Arc<Batch>, blob: &Descriptor, pending: Readying) {
    match pending.await {
        (Ok(Some(wanting)), told) => send_together(batch, blob, vec![(wanting, told)]).await,
        (settled, told) => told.tell(settled.map(|_| ())),
    }
}

async fn ready(told: Told, blob: Descriptor, share: Arc<Share>) -> (Result<Option<Wanting>, CopyError>, Told) {
    (prepare(&told.delivery, &blob, &share, Trust::Memory).await, told)
}

async fn send_together(batch: &Arc<Batch>, blob: &Descriptor, wanting: Vec<(Wanting, Told)>) {
    if wanting.is_empty() {
        return;
    }
    let streams = tee::split(&batch.source, blob, wanting.len());
    let sending = wanting.into_iter().zip(streams).map(|((wanting, told), bytes)| async move {
        told.tell(send(batch, blob, wanting, bytes).await);
    });
    join_all(sending).await;
}

/// Brings one blob to one target alone, with less trust than the first time.
pub(super) async fn bring_again(delivery: &Arc<Delivery>, blob: &Descriptor, trust: Trust) -> Result<(), CopyError> {
    let batch = &delivery.batch;
    let share = Share::new(&batch.copier, blob.size, 1);
    let Some(wanting) = prepare(delivery, blob, &share, trust).await? else { return Ok(()) };
    let bytes = reading::read(batch.source.clone(), blob.clone(), 0);
    send(batch, blob, wanting, bytes).await
}

/// Finds or mounts the blob; else opens an upload.
async fn prepare(
    delivery: &Arc<Delivery>,
    blob: &Descriptor,
    share: &Arc<Share>,
    trust: Trust,
) -> Result<Option<Wanting>, CopyError> {
    let target = delivery.target();
    let mut lead = match claim(delivery, blob, trust).await {
        Some(lead) => lead,
        None => return Ok(None),
    };
    if delivery.has_given_up() {
        return Err(CopyError::Interrupted);
    }
    let source = &delivery.batch.source;
    if trust != Trust::Memory {
        // A mount may have been what was not so.
        lead.mount_from = None;
    } else if lead.mount_from.is_none() && source.scope() == target.scope() {
        lead.mount_from = source.repository().cloned();
    }
    let from = lead.mount_from.clone();
    let must_ask = from.is_none() && trust != Trust::Nothing;
    if must_ask && target.has_blob(blob).await.map_err(CopyError::target)? {
        lead.arrived(BlobOutcome::Found);
        return Ok(None);
    }
    // A mount moves no bytes, so it does not wait for those who do.
    let early = if from.is_none() { Some(share.take().await) } else { None };
    match target.begin_upload(blob, from.as_ref()).await.map_err(CopyError::target)? {
        Begun::Mounted => {
            delivery.brought(blob, BlobOutcome::Mounted);
            lead.arrived(BlobOutcome::Mounted);
            Ok(None)
        }
        Begun::Session(upload) => {
            let memory = match early {
                Some(memory) => memory,
                None => share.take().await,
            };
            Ok(Some(Wanting { delivery: delivery.clone(), lead, upload, _memory: memory }))
        }
    }
}

/// The duty to bring the blob, `None` when somebody else did.
async fn claim(delivery: &Delivery, blob: &Descriptor, trust: Trust) -> Option<Lead> {
    let target = delivery.target();
    let (scope, room) = (target.scope(), target.repository().cloned());
    let flights = &delivery.batch.copier.flights;
    let begun = Instant::now();
    if trust != Trust::Memory {
        flights.forget(&scope, &room, blob.digest);
    }
    loop {
        match flights.claim(&scope, &room, blob.digest) {
            // Somebody with more trust was told so meanwhile.
            Claim::Present(known) if trust == Trust::Nothing && !known.was_sent_since(begun) => {
                flights.forget(&scope, &room, blob.digest);
            }
            Claim::Present(_) => return None,
            Claim::Lead(lead) => return Some(lead),
            Claim::Wait(ended) => ended.await,
        }
    }
}

/// Sends the bytes, and once more from the start where the target broke off.
async fn send(batch: &Arc<Batch>, blob: &Descriptor, wanting: Wanting, bytes: ByteStream) -> Result<(), CopyError> {
    let Wanting { delivery, lead, upload, _memory } = wanting;
    let target = delivery.target();
    let (mut upload, mut bytes, mut failures) = (upload, bytes, 0);
    loop {
        let error = match send_once(batch, &delivery, blob, upload, bytes).await {
            Ok(()) => {
                delivery.brought(blob, BlobOutcome::Copied);
                lead.arrived(BlobOutcome::Copied);
                return Ok(());
            }
            Err(error) => error,
        };
        failures += 1;
        if failures == ATTEMPTS || !error.is_transient() || delivery.has_given_up() {
            return Err(error);
        }
        tokio::time::sleep(FIRST_WAIT * 2u32.pow(failures - 1)).await;
        match target.begin_upload(blob, None).await.map_err(CopyError::target)? {
            Begun::Mounted => {
                delivery.brought(blob, BlobOutcome::Mounted);
                lead.arrived(BlobOutcome::Mounted);
                return Ok(());
            }
            Begun::Session(again) => upload = again,
        }
        bytes = reading::read(batch.source.clone(), blob.clone(), 0);
    }
}

async fn send_once(
    batch: &Arc<Batch>,
    delivery: &Delivery,
    blob: &Descriptor,
    upload: Box<dyn Upload>,
    bytes: ByteStream,
) -> Result<(), CopyError> {
    let place = batch.source.place();
    let transfer = Transfer::new(place, delivery.target().place(), blob.digest, blob.size);
    batch.tell(Event::TransferStarted(transfer.clone())).await;
    let mut under_way = UnderWay { batch, transfer: Some(transfer.clone()) };
    let counted = transfer.clone();
    let bytes = bytes.inspect(move |piece| {
        if let Ok(piece) = piece {
            counted.advance(piece.len() as u64);
        }
    });
    let sent = upload.send(Verified::new(bytes.boxed(), blob.clone(), place)).await.map_err(CopyError::upload);
    under_way.transfer = None;
    batch
        .tell(match &sent {
            Ok(()) => Event::TransferFinished(transfer),
            Err(error) => Event::TransferFailed(transfer, error.to_string()),
        })
        .await;
    sent
}

/// A transfer that is told to have failed when it is dropped.
struct UnderWay<'a> {
    batch: &'a Batch,
    transfer: Option<Arc<Transfer>>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            self.batch.tell_at_once(Event::TransferFailed(transfer, CopyError::Interrupted.to_string()));
        }
    }
}
