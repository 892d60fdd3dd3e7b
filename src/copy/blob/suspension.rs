//! Suspension and resumption of uploads. If a run is interrupted, each upload ends after its current chunk. The next
//! run resumes the upload after this chunk.

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

/// Maximum time that the suspended uploads have to send their current chunks.
const LAST_CHUNK: Duration = Duration::from_secs(3);

/// Store of the progress of unfinished uploads. The saved progress is a hint: when an upload resumes, the target states
/// how many bytes the target has stored.
#[async_trait]
pub trait UploadSessionStore: fmt::Debug + Send + Sync {
    /// Returns the saved progress of an unfinished upload of a blob to the repository `target`.
    async fn recall(&self, target: &str, blob: Digest) -> Option<UploadSession>;

    /// Saves the progress of the upload of a blob to the repository `target`.
    async fn save(&self, target: &str, blob: Digest, session: UploadSession);

    /// Removes the saved progress of an upload that has finished or cannot resume.
    async fn forget(&self, target: &str, blob: Digest);
}

/// Signal that suspends the uploads of one run, and the count of the running uploads.
#[derive(Debug, Clone, Default)]
pub struct Suspension {
    signal: CancellationToken,
    running: TaskTracker,
}

impl Suspension {
    /// Signals every upload to end after its current chunk. Then waits at most three seconds until all uploads have
    /// ended.
    pub async fn suspend(&self) {
        self.signal.cancel();
        self.running.close();
        // If an upload has not ended in time, the end of the run interrupts the upload within a chunk.
        let _ = tokio::time::timeout(LAST_CHUNK, self.running.wait()).await;
    }

    /// Returns true after [`Suspension::suspend`] was called. The suspension may then be the cause of an error, even if
    /// the error names an endpoint.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.signal.is_cancelled()
    }

    /// Counts an upload as running until the returned token is dropped.
    pub(crate) fn track(&self) -> TaskTrackerToken {
        self.running.token()
    }

    /// Returns a stream of the same bytes. After the signal to suspend, this stream ends with an error, so the upload
    /// starts no new chunk.
    pub(crate) fn end_when_suspended(&self, bytes: ByteStream, place: &str, blob: &Descriptor) -> ByteStream {
        let ended = StoreError::new(place, Step::ReadBlob, blob.digest, ErrorKind::Unavailable, "interrupted");
        let signal = self.signal.clone();
        let end = futures_util::stream::once(async move { Err(ended) });
        let before_signal = bytes.take_until(signal.clone().cancelled_owned());
        before_signal.chain(end.take_while(move |_| std::future::ready(signal.is_cancelled()))).boxed()
    }
}

/// Resumes the saved upload of a blob. If the target cannot resume the upload, opens a new upload. Returns
/// [`BlobLookup::Found`] if the target now has the blob. Returns `None` if no upload of the blob is saved.
pub(crate) async fn resume_or_restart(
    batch: &Batch,
    target: &dyn Target,
    blob: &Descriptor,
) -> Option<Result<BlobLookup, StoreError>> {
    let upload_store = batch.upload_store(target, blob)?;
    let saved = upload_store.recall(target.place(), blob.digest).await?;
    if target.has_blob(blob).await.is_ok_and(|has_blob| has_blob) {
        upload_store.forget(target.place(), blob.digest).await;
        return Some(Ok(BlobLookup::Found));
    }
    let stored = saved.confirmed.stored;
    match target.resume_upload(blob, &saved).await {
        Ok(Some(upload)) => {
            tracing::info!(
                target = target.place(), digest = %blob.digest, stored, size = blob.size,
                "an upload resumes where it was interrupted"
            );
            return Some(Ok(BlobLookup::Session(upload)));
        }
        Ok(None) => upload_store.forget(target.place(), blob.digest).await,
        Err(error) => {
            tracing::info!(
                target = target.place(), digest = %blob.digest, noted = stored,
                "cannot resume an interrupted upload, so the upload restarts: {error}"
            );
        }
    }
    // The code above has queried the target for the blob, so this request only opens an upload.
    Some(target.begin_upload(blob, None).await.map(BlobLookup::from))
}

/// Returns the listener that saves the progress of a blob's upload; `None` if the batch saves no progress for the blob.
pub(crate) fn progress_listener(batch: &Batch, target: &dyn Target, blob: &Descriptor) -> Option<ProgressSink> {
    let upload_store = batch.upload_store(target, blob)?.clone();
    let (place, digest) = (Arc::<str>::from(target.place()), blob.digest);
    Some(Arc::new(move |session| {
        let (upload_store, place) = (upload_store.clone(), place.clone());
        Box::pin(async move { upload_store.save(&place, digest, session).await })
    }))
}

pub(crate) async fn forget_upload(batch: &Batch, target: &dyn Target, blob: &Descriptor) {
    if let Some(upload_store) = batch.upload_store(target, blob) {
        upload_store.forget(target.place(), blob.digest).await;
    }
}
