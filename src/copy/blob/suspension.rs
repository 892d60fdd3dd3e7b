//! Suspension of uploads: an interrupted copy ends between two chunks, and the next run resumes its uploads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::copy::batch::Batch;
use crate::oci::{Descriptor, Digest};
use crate::store::{BlobLookup, ByteStream, ErrorKind, ProgressSink, Step, StoreError, Target, UploadSession};

/// Maximum time that interrupted uploads may still take for the current chunk.
const LAST_CHUNK: Duration = Duration::from_secs(3);

/// Store of the progress of uploads that have not ended. Its data is a hint: the endpoint decides.
#[async_trait]
pub trait UploadSessionStore: fmt::Debug + Send + Sync {
    /// Returns the progress of an upload of this blob to a repository that an ended run has left.
    async fn recall(&self, target: &str, blob: Digest) -> Option<UploadSession>;

    /// Saves the progress of an upload.
    async fn save(&self, target: &str, blob: Digest, left: UploadSession);

    /// Removes an upload that has ended or cannot be resumed.
    async fn forget(&self, target: &str, blob: Digest);
}

/// Uploads of one run, and the signal that ends them.
#[derive(Debug, Clone, Default)]
pub struct Suspension {
    signal: CancellationToken,
    under_way: TaskTracker,
}

impl Suspension {
    /// Signals every upload to end at its current position, and waits until all have ended: for the current chunk,
    /// three seconds at most.
    pub async fn suspend(&self) {
        self.signal.cancel();
        self.under_way.close();
        // Uploads that have not ended by then are cut off within a chunk.
        let _ = tokio::time::timeout(LAST_CHUNK, self.under_way.wait()).await;
    }

    /// Returns true if the uploads were signalled to end. A failure after that may have nothing to do with the endpoint
    /// that it names.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.signal.is_cancelled()
    }

    /// Marks an upload as in progress while the returned token is held.
    pub(crate) fn track(&self) -> TaskTrackerToken {
        self.under_way.token()
    }

    /// Returns the bytes until the uploads are signalled to end, and then an error. After that error a sender of
    /// chunks starts no further one.
    pub(crate) fn end_when_suspended(&self, bytes: ByteStream, place: &str, blob: &Descriptor) -> ByteStream {
        let ended = StoreError::new(place, Step::ReadBlob, blob.digest, ErrorKind::Unavailable, "interrupted");
        let signal = self.signal.clone();
        let end = futures_util::stream::once(async move { Err(ended) });
        let until = bytes.take_until(signal.clone().cancelled_owned());
        until.chain(end.take_while(move |_| std::future::ready(signal.is_cancelled()))).boxed()
    }
}

/// Resumes the upload of a blob that an earlier run has left, or restarts it. The target may have received the blob in
/// the meantime; then the result says so. Returns `None` if no upload was left.
pub(crate) async fn resume_or_restart(
    batch: &Batch,
    target: &dyn Target,
    blob: &Descriptor,
) -> Option<Result<BlobLookup, StoreError>> {
    let unfinished = batch.unfinished(target, blob)?;
    let left = unfinished.recall(target.place(), blob.digest).await?;
    if target.has_blob(blob).await.is_ok_and(|there| there) {
        unfinished.forget(target.place(), blob.digest).await;
        return Some(Ok(BlobLookup::Found));
    }
    let stored = left.standing.stored;
    match target.resume_upload(blob, &left).await {
        Ok(Some(upload)) => {
            tracing::info!(
                target = target.place(), digest = %blob.digest, stored, size = blob.size,
                "an upload resumes where it was interrupted"
            );
            return Some(Ok(BlobLookup::Session(upload)));
        }
        Ok(None) => unfinished.forget(target.place(), blob.digest).await,
        Err(error) => {
            tracing::info!(
                target = target.place(), digest = %blob.digest, noted = stored,
                "an interrupted upload restarts: {error}"
            );
        }
    }
    // The target was queried for the blob just before.
    Some(target.begin_upload(blob, None).await.map(BlobLookup::from))
}

/// Returns the listener that saves the progress of a blob's upload, if the upload can be resumed.
pub(crate) fn progress_listener(batch: &Batch, target: &dyn Target, blob: &Descriptor) -> Option<ProgressSink> {
    let unfinished = batch.unfinished(target, blob)?.clone();
    let (place, digest) = (Arc::<str>::from(target.place()), blob.digest);
    Some(Arc::new(move |left| {
        let (unfinished, place) = (unfinished.clone(), place.clone());
        Box::pin(async move { unfinished.save(&place, digest, left).await })
    }))
}

/// Removes the saved upload of this blob: it has ended, or cannot be resumed.
pub(crate) async fn forget_upload(batch: &Batch, target: &dyn Target, blob: &Descriptor) {
    if let Some(unfinished) = batch.unfinished(target, blob) {
        unfinished.forget(target.place(), blob.digest).await;
    }
}
