//! Transfer of one blob's bytes to one target, with retries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::Instrument as _;

use super::fan_out::Branch;
use super::reservation::{Reservation, take_alone};
use super::single_flight::{FlightProgress, Owner};
use super::{read, suspension};
use crate::copy::deliver::Delivery;
use crate::copy::event::{BlobOutcome, Event, Transfer};
use crate::copy::{Batch, CopyError};
use crate::oci::Descriptor;
use crate::store::{ByteStream, Upload, UploadStart, Verified};

/// Maximum number of attempts to send one blob to one target. If the last attempt fails, the copy to the target fails.
const ATTEMPTS: u32 = 3;

/// Wait before the second attempt to send a blob. The wait doubles with each attempt.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Maximum number of retries of requests that the target did not process, because the target closed the connection
/// first. These retries do not count towards [`ATTEMPTS`].
const MAX_NOT_TAKEN: u32 = 200;

/// Maximum wait before a retry of a request that the target did not process.
const MAX_NOT_TAKEN_WAIT: Duration = Duration::from_millis(100);

pub(crate) struct ReadyTarget {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) owner: Owner,
    pub(crate) upload: Box<dyn Upload>,
    pub(crate) reservation: Reservation,
}

/// Sends the bytes of a blob to one target. The function sends the bytes again from the start in these cases:
/// - the target interrupted the upload,
/// - the stream of bytes was interrupted, because the target fell behind the other targets,
/// - a mirror of the source returned wrong bytes,
/// - the manifest states a wrong size,
/// - an earlier process started the upload, and the bytes of that process are wrong or the target rejects the remaining
///   bytes.
pub(crate) async fn send(blob: &Descriptor, ready: ReadyTarget, branch: Branch) -> Result<(), CopyError> {
    let span = ready.delivery.span().clone();
    send_with_retries(blob, ready, branch).instrument(span).await
}

async fn send_with_retries(declared: &Descriptor, ready: ReadyTarget, branch: Branch) -> Result<(), CopyError> {
    let mut blob = declared.clone();
    let ReadyTarget { delivery, owner, mut upload, mut reservation } = ready;
    let Branch { mut bytes, status } = branch;
    let (target, copier) = (delivery.target(), &delivery.batch.copier);
    let (mut failures, mut not_taken, mut has_restarted) = (0, 0, false);
    loop {
        let blob = &mut blob;
        let resumed_at = upload.confirmed().map_or(0, |confirmed| confirmed.stored);
        if resumed_at > 0 {
            // A resumed upload needs its own read, because the shared read starts at offset 0.
            bytes = read::read(delivery.batch.source.clone(), blob.clone(), resumed_at);
        }
        let error = match send_once(&delivery, blob, upload, bytes, &owner.progress()).await {
            Ok(()) => {
                delivery.record_blob(blob, BlobOutcome::Copied);
                owner.record_arrival(BlobOutcome::Copied);
                return Ok(());
            }
            Err(error) => error,
        };
        // Wrong bytes from a mirror are more likely than a wrong size. So the copy tries the other mirrors first.
        let may_have_wrong_size =
            blob.size == declared.size && (!delivery.batch.source.is_mirrored() || failures + 1 == ATTEMPTS);
        if delivery.has_ended() || delivery.batch.suspension().is_suspended() {
            return Err(error);
        }
        let cannot_resume = resumed_at > 0 && (error.is_corrupt() || error.is_refusal());
        if cannot_resume {
            // The bytes that an earlier process has sent may be wrong. Or the target may reject the remaining chunks,
            // because their size or encoding differs from the chunks of the earlier process.
            suspension::forget_upload(&delivery.batch, target.as_ref(), blob).await;
        }
        if status.was_interrupted() && !has_restarted {
            has_restarted = true;
            // While this transfer waits for a permit for the separate read, other transfers can use its memory.
            drop(reservation);
            reservation = take_alone(copier, blob.size, target.memory_per_upload(), delivery.tracker()).await;
        } else if may_have_wrong_size
            && error.is_corrupt()
            && let Some(length) = find_actual_length(&delivery, blob).await
        {
            blob.size = length;
            // The reserved memory was for the size in the manifest.
            drop(reservation);
            reservation = take_alone(copier, blob.size, target.memory_per_upload(), delivery.tracker()).await;
        } else if error.was_not_taken() && error.may_be_repeated() && not_taken < MAX_NOT_TAKEN {
            tokio::time::sleep((Duration::from_millis(5) * not_taken).min(MAX_NOT_TAKEN_WAIT)).await;
            not_taken += 1;
        } else {
            failures += 1;
            // After wrong bytes, a retry uses another mirror.
            let may_use_other_mirror = error.is_corrupt() && delivery.batch.source.is_mirrored();
            if failures == ATTEMPTS || !(error.may_be_repeated() || may_use_other_mirror || cannot_resume) {
                return Err(error);
            }
            tokio::time::sleep(FIRST_WAIT * 2u32.pow(failures - 1)).await;
        }
        match target.begin_upload(blob, None).await.map_err(CopyError::target)? {
            UploadStart::Mounted => {
                delivery.record_blob(blob, BlobOutcome::Mounted);
                owner.record_arrival(BlobOutcome::Mounted);
                return Ok(());
            }
            UploadStart::Session(session) => upload = session,
        }
        bytes = read::read(delivery.batch.source.clone(), blob.clone(), 0);
    }
}

/// If the source reports a length that differs from the size in the descriptor, returns the reported length. The later
/// check of the digest shows whether the reported length is right.
async fn find_actual_length(delivery: &Delivery, blob: &Descriptor) -> Option<u64> {
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
    progress: &Arc<FlightProgress>,
) -> Result<(), CopyError> {
    let (batch, target) = (&delivery.batch, delivery.target());
    let place = batch.source.place();
    let _running = batch.suspension().track();
    let confirmed = upload.confirmed().cloned();
    let stored = confirmed.as_ref().map_or(0, |confirmed| confirmed.stored);
    let transfer = Transfer::resumed(place, target.place(), blob.digest, blob.size, stored);
    batch.send_event(Event::TransferStarted(transfer.clone())).await;
    let mut unreported = UnreportedTransfer { batch, transfer: Some(transfer.clone()) };
    progress.restart(stored);
    let (counted, progress) = (transfer.clone(), progress.clone());
    let bytes = bytes.inspect(move |piece| {
        if let Ok(piece) = piece {
            counted.advance(piece.len() as u64);
            progress.advance(piece.len() as u64);
        }
    });
    let bytes = batch.suspension().end_when_suspended(bytes.boxed(), place, blob);
    let bytes = match confirmed {
        Some(confirmed) => Verified::resume(bytes, blob.clone(), place, confirmed),
        None => Verified::new(bytes, blob.clone(), place),
    };
    let bytes = bytes.with_progress(suspension::progress_listener(batch, target.as_ref(), blob));
    let sent = upload.send(bytes).await.map_err(CopyError::upload);
    if sent.is_ok() {
        suspension::forget_upload(batch, target.as_ref(), blob).await;
    }
    unreported.transfer = None;
    batch
        .send_event(match &sent {
            Ok(()) => Event::TransferFinished(transfer),
            Err(error) => Event::TransferFailed(transfer, error.to_string()),
        })
        .await;
    sent
}

/// Guard of a running transfer. If the guard is dropped before the end of the transfer, the guard reports the transfer
/// as failed.
struct UnreportedTransfer<'a> {
    batch: &'a Batch,
    transfer: Option<Arc<Transfer>>,
}

impl Drop for UnreportedTransfer<'_> {
    fn drop(&mut self) {
        if let Some(transfer) = self.transfer.take() {
            self.batch.try_send_event(Event::TransferFailed(transfer, CopyError::Interrupted.to_string()));
        }
    }
}
