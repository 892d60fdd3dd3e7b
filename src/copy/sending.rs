//! The bytes of one blob on their way to one target, sent again where that helps.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::Instrument as _;

use super::deliver::Delivery;
use super::event::{BlobOutcome, Event, Transfer};
use super::flight::{Duty, Work};
use super::share::{Part, take_alone};
use super::tee::Branch;
use super::{Batch, CopyError, reading, suspension};
use crate::oci::Descriptor;
use crate::store::{Begun, ByteStream, Upload, Verified};

/// How often the bytes of one blob are sent to one target before the tag fails.
const ATTEMPTS: u32 = 3;

/// The wait before a blob is sent again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Number of times that a blob is sent again since the target ended the connection before it took it, beside
/// [`ATTEMPTS`].
const MOST_NOT_TAKEN: u32 = 200;

/// The longest wait before that.
const LONGEST_NOT_TAKEN: Duration = Duration::from_millis(100);

/// A target that waits for bytes.
pub(super) struct Wanting {
    pub(super) delivery: Arc<Delivery>,
    pub(super) duty: Duty,
    pub(super) upload: Box<dyn Upload>,
    pub(super) part: Part,
}

/// Sends the bytes. Once more from the start where the target broke off, where it fell behind its siblings, where a
/// mirror of the source gave wrong ones, and where what an earlier process has sent is of no use.
pub(super) async fn send(blob: &Descriptor, wanting: Wanting, branch: Branch) -> Result<(), CopyError> {
    let span = wanting.delivery.span().clone();
    send_until_it_is_there(blob, wanting, branch).instrument(span).await
}

async fn send_until_it_is_there(stated: &Descriptor, wanting: Wanting, branch: Branch) -> Result<(), CopyError> {
    let mut blob = stated.clone();
    let Wanting { delivery, duty, mut upload, mut part } = wanting;
    let Branch { mut bytes, standing } = branch;
    let (target, copier) = (delivery.target(), &delivery.batch.copier);
    let (mut failures, mut not_taken, mut was_left) = (0, 0, false);
    loop {
        let blob = &mut blob;
        let goes_on = upload.standing().map_or(0, |standing| standing.stored);
        if goes_on > 0 {
            // What it reads is not what its siblings do.
            bytes = reading::read(delivery.batch.source.clone(), blob.clone(), goes_on);
        }
        let error = match send_once(&delivery, blob, upload, bytes, &duty.work()).await {
            Ok(()) => {
                delivery.brought(blob, BlobOutcome::Copied);
                duty.arrived(BlobOutcome::Copied);
                return Ok(());
            }
            Err(error) => error,
        };
        // Wrong bytes of a mirror are more likely than a wrong size: the others are asked first.
        let may_be_misstated =
            blob.size == stated.size && (!delivery.batch.source.is_mirrored() || failures + 1 == ATTEMPTS);
        if delivery.has_given_up() || delivery.batch.suspension().is_suspended() {
            return Err(error);
        }
        let is_no_way_on = goes_on > 0 && (error.is_corrupt() || error.is_refusal());
        if is_no_way_on {
            // What an earlier process has sent may be wrong, or the session be one that takes no such chunks as this one sends.
            suspension::forget(&delivery.batch, target.as_ref(), blob).await;
        }
        if standing.was_left() && !was_left {
            was_left = true;
            // The memory is for those who can use it now.
            drop(part);
            part = take_alone(copier, blob.size, target.upload_holds(), delivery.lane()).await;
        } else if may_be_misstated
            && error.is_corrupt()
            && let Some(length) = other_length(&delivery, blob).await
        {
            blob.size = length;
            // What was set aside was for the stated size.
            drop(part);
            part = take_alone(copier, blob.size, target.upload_holds(), delivery.lane()).await;
        } else if error.was_not_taken() && error.may_be_repeated() && not_taken < MOST_NOT_TAKEN {
            tokio::time::sleep((Duration::from_millis(5) * not_taken).min(LONGEST_NOT_TAKEN)).await;
            not_taken += 1;
        } else {
            failures += 1;
            // A mirror that was wrong is not asked again.
            let was_misled = error.is_corrupt() && delivery.batch.source.is_mirrored();
            if failures == ATTEMPTS || !(error.may_be_repeated() || was_misled || is_no_way_on) {
                return Err(error);
            }
            tokio::time::sleep(FIRST_WAIT * 2u32.pow(failures - 1)).await;
        }
        match target.begin_upload(blob, None).await.map_err(CopyError::target)? {
            Begun::Mounted => {
                delivery.brought(blob, BlobOutcome::Mounted);
                duty.arrived(BlobOutcome::Mounted);
                return Ok(());
            }
            Begun::Session(again) => upload = again,
        }
        bytes = reading::read(delivery.batch.source.clone(), blob.clone(), 0);
    }
}

/// The length that the source has of a blob, where the descriptor states another. The digest decides which one is right.
async fn other_length(delivery: &Delivery, blob: &Descriptor) -> Option<u64> {
    let source = &delivery.batch.source;
    let length = source.blob_length(blob).await.filter(|length| *length != blob.size)?;
    tracing::warn!(
        source = source.place(), digest = %blob.digest, stated = blob.size, length,
        "a manifest states a wrong size of a blob; the blob is read in the length that the source has"
    );
    Some(length)
}

async fn send_once(
    delivery: &Delivery,
    blob: &Descriptor,
    upload: Box<dyn Upload>,
    bytes: ByteStream,
    work: &Arc<Work>,
) -> Result<(), CopyError> {
    let (batch, target) = (&delivery.batch, delivery.target());
    let place = batch.source.place();
    let _held = batch.suspension().hold();
    let standing = upload.standing().cloned();
    let stored = standing.as_ref().map_or(0, |standing| standing.stored);
    let transfer = Transfer::going_on(place, target.place(), blob.digest, blob.size, stored);
    batch.tell(Event::TransferStarted(transfer.clone())).await;
    let mut under_way = UnderWay { batch, transfer: Some(transfer.clone()) };
    work.restart(stored);
    let (counted, work) = (transfer.clone(), work.clone());
    let bytes = bytes.inspect(move |piece| {
        if let Ok(piece) = piece {
            counted.advance(piece.len() as u64);
            work.advance(piece.len() as u64);
        }
    });
    let bytes = batch.suspension().bound(bytes.boxed(), place, blob);
    let bytes = match standing {
        Some(standing) => Verified::resume(bytes, blob.clone(), place, standing),
        None => Verified::new(bytes, blob.clone(), place),
    };
    let bytes = bytes.with_progress(suspension::progress(batch, target.as_ref(), blob));
    let sent = upload.send(bytes).await.map_err(CopyError::upload);
    if sent.is_ok() {
        suspension::forget(batch, target.as_ref(), blob).await;
    }
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
