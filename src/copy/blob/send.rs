//! Sending of one blob's bytes to one target, with retries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::Instrument as _;

use super::fan_out::Branch;
use super::reservation::{Reservation, take_alone};
use super::single_flight::{Owner, Work};
use super::{read, resume};
use crate::copy::deliver::Delivery;
use crate::copy::event::{BlobOutcome, Event, Transfer};
use crate::copy::{Batch, CopyError};
use crate::oci::Descriptor;
use crate::store::{ByteStream, Upload, UploadStart, Verified};

/// Number of attempts to send one blob to one target before the tag fails.
const ATTEMPTS: u32 = 3;

/// Wait before a blob is sent again. The wait doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Number of times that a blob is sent again because the target ended the connection before it took the request. They
/// do not count towards [`ATTEMPTS`].
const MOST_NOT_TAKEN: u32 = 200;

/// Longest wait before such a retry.
const LONGEST_NOT_TAKEN: Duration = Duration::from_millis(100);

/// Target that is ready for the bytes of a blob.
pub(crate) struct Wanting {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) duty: Owner,
    pub(crate) upload: Box<dyn Upload>,
    pub(crate) part: Reservation,
}

/// Sends the bytes. The bytes are sent once more from the start in these cases:
/// - the target interrupted the upload,
/// - the target fell behind its siblings,
/// - a mirror of the source returned wrong bytes,
/// - the bytes that an earlier process has sent are of no use.
pub(crate) async fn send(blob: &Descriptor, wanting: Wanting, branch: Branch) -> Result<(), CopyError> {
    let span = wanting.delivery.span().clone();
    send_with_retries(blob, wanting, branch).instrument(span).await
}

async fn send_with_retries(stated: &Descriptor, wanting: Wanting, branch: Branch) -> Result<(), CopyError> {
    let mut blob = stated.clone();
    let Wanting { delivery, duty, mut upload, mut part } = wanting;
    let Branch { mut bytes, standing } = branch;
    let (target, copier) = (delivery.target(), &delivery.batch.copier);
    let (mut failures, mut not_taken, mut was_left) = (0, 0, false);
    loop {
        let blob = &mut blob;
        let goes_on = upload.standing().map_or(0, |standing| standing.stored);
        if goes_on > 0 {
            // This read starts at another offset than the shared one of its siblings.
            bytes = read::read(delivery.batch.source.clone(), blob.clone(), goes_on);
        }
        let error = match send_once(&delivery, blob, upload, bytes, &duty.work()).await {
            Ok(()) => {
                delivery.record_blob(blob, BlobOutcome::Copied);
                duty.record_arrival(BlobOutcome::Copied);
                return Ok(());
            }
            Err(error) => error,
        };
        // Wrong bytes of a mirror are more likely than a wrong size, so the other mirrors are tried first.
        let may_be_misstated =
            blob.size == stated.size && (!delivery.batch.source.is_mirrored() || failures + 1 == ATTEMPTS);
        if delivery.has_given_up() || delivery.batch.suspension().is_suspended() {
            return Err(error);
        }
        let is_no_way_on = goes_on > 0 && (error.is_corrupt() || error.is_refusal());
        if is_no_way_on {
            // The bytes that an earlier process has sent may be wrong, or the session may refuse chunks in the form in
            // which this process sends them.
            resume::forget_upload(&delivery.batch, target.as_ref(), blob).await;
        }
        if standing.was_left() && !was_left {
            was_left = true;
            // The memory is released for transfers that can use it now.
            drop(part);
            part = take_alone(copier, blob.size, target.upload_holds(), delivery.lane()).await;
        } else if may_be_misstated
            && error.is_corrupt()
            && let Some(length) = other_length(&delivery, blob).await
        {
            blob.size = length;
            // The reserved memory was for the stated size.
            drop(part);
            part = take_alone(copier, blob.size, target.upload_holds(), delivery.lane()).await;
        } else if error.was_not_taken() && error.may_be_repeated() && not_taken < MOST_NOT_TAKEN {
            tokio::time::sleep((Duration::from_millis(5) * not_taken).min(LONGEST_NOT_TAKEN)).await;
            not_taken += 1;
        } else {
            failures += 1;
            // No further request is sent to a mirror that returned wrong bytes.
            let was_misled = error.is_corrupt() && delivery.batch.source.is_mirrored();
            if failures == ATTEMPTS || !(error.may_be_repeated() || was_misled || is_no_way_on) {
                return Err(error);
            }
            tokio::time::sleep(FIRST_WAIT * 2u32.pow(failures - 1)).await;
        }
        match target.begin_upload(blob, None).await.map_err(CopyError::target)? {
            UploadStart::Mounted => {
                delivery.record_blob(blob, BlobOutcome::Mounted);
                duty.record_arrival(BlobOutcome::Mounted);
                return Ok(());
            }
            UploadStart::Session(again) => upload = again,
        }
        bytes = read::read(delivery.batch.source.clone(), blob.clone(), 0);
    }
}

/// Returns the source's length of a blob, if the descriptor states another. The digest decides which one is right.
async fn other_length(delivery: &Delivery, blob: &Descriptor) -> Option<u64> {
    let source = &delivery.batch.source;
    let length = source.blob_length(blob).await.filter(|length| *length != blob.size)?;
    tracing::warn!(
        source = source.place(), digest = %blob.digest, stated = blob.size, length,
        "the manifest states a wrong size; the blob is read with the source's length"
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
    let _held = batch.suspension().track();
    let standing = upload.standing().cloned();
    let stored = standing.as_ref().map_or(0, |standing| standing.stored);
    let transfer = Transfer::resumed(place, target.place(), blob.digest, blob.size, stored);
    batch.send_event(Event::TransferStarted(transfer.clone())).await;
    let mut under_way = UnderWay { batch, transfer: Some(transfer.clone()) };
    work.restart(stored);
    let (counted, work) = (transfer.clone(), work.clone());
    let bytes = bytes.inspect(move |piece| {
        if let Ok(piece) = piece {
            counted.advance(piece.len() as u64);
            work.advance(piece.len() as u64);
        }
    });
    let bytes = batch.suspension().end_when_suspended(bytes.boxed(), place, blob);
    let bytes = match standing {
        Some(standing) => Verified::resume(bytes, blob.clone(), place, standing),
        None => Verified::new(bytes, blob.clone(), place),
    };
    let bytes = bytes.with_progress(resume::progress_listener(batch, target.as_ref(), blob));
    let sent = upload.send(bytes).await.map_err(CopyError::upload);
    if sent.is_ok() {
        resume::forget_upload(batch, target.as_ref(), blob).await;
    }
    under_way.transfer = None;
    batch
        .send_event(match &sent {
            Ok(()) => Event::TransferFinished(transfer),
            Err(error) => Event::TransferFailed(transfer, error.to_string()),
        })
        .await;
    sent
}

/// Transfer that is reported as failed when it is dropped.
struct UnderWay<'a> {
    batch: &'a Batch,
    transfer: Option<Arc<Transfer>>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            self.batch.try_send_event(Event::TransferFailed(transfer, CopyError::Interrupted.to_string()));
        }
    }
}
