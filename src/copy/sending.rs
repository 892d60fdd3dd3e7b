//! The bytes of one blob on their way to one target, sent again where that helps.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tracing::Instrument as _;

use super::deliver::Delivery;
use super::event::{BlobOutcome, Event, Transfer};
use super::flight::Duty;
use super::share::{Part, take_alone};
use super::tee::Branch;
use super::{Batch, CopyError, reading};
use crate::oci::Descriptor;
use crate::store::{Begun, ByteStream, Upload, Verified};

/// How often the bytes of one blob are sent to one target before the tag fails.
const ATTEMPTS: u32 = 3;

/// The wait before a blob is sent again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// A target that waits for bytes.
pub(super) struct Wanting {
    pub(super) delivery: Arc<Delivery>,
    pub(super) duty: Duty,
    pub(super) upload: Box<dyn Upload>,
    pub(super) part: Part,
}

/// Sends the bytes. Once more from the start where the target broke off, where it fell behind its siblings, and where a
/// mirror of the source gave wrong ones.
pub(super) async fn send(blob: &Descriptor, wanting: Wanting, branch: Branch) -> Result<(), CopyError> {
    let span = wanting.delivery.span().clone();
    send_until_it_is_there(blob, wanting, branch).instrument(span).await
}

async fn send_until_it_is_there(blob: &Descriptor, wanting: Wanting, branch: Branch) -> Result<(), CopyError> {
    let Wanting { delivery, duty, mut upload, mut part } = wanting;
    let Branch { mut bytes, standing } = branch;
    let (target, copier) = (delivery.target(), &delivery.batch.copier);
    let (mut failures, mut was_left) = (0, false);
    loop {
        let error = match send_once(&delivery, blob, upload, bytes).await {
            Ok(()) => {
                delivery.brought(blob, BlobOutcome::Copied);
                duty.arrived(BlobOutcome::Copied);
                return Ok(());
            }
            Err(error) => error,
        };
        if delivery.has_given_up() {
            return Err(error);
        }
        if standing.was_left() && !was_left {
            was_left = true;
            // The memory is for those who can use it now.
            drop(part);
            part = take_alone(copier, blob.size, target.upload_holds(), delivery.lane()).await;
        } else {
            failures += 1;
            // A mirror that was wrong is not asked again.
            let was_misled = error.is_corrupt() && delivery.batch.source.is_mirrored();
            if failures == ATTEMPTS || !(error.is_transient() || was_misled) {
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

async fn send_once(
    delivery: &Delivery,
    blob: &Descriptor,
    upload: Box<dyn Upload>,
    bytes: ByteStream,
) -> Result<(), CopyError> {
    let batch = &delivery.batch;
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
