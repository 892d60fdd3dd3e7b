//! How a copy that is cut short ends between two chunks, and what it leaves behind for the next run to go on with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::batch::Batch;
use crate::oci::{Descriptor, Digest};
use crate::store::{ByteStream, ErrorKind, Progress, Sought, Step, StoreError, Suspended, Target};

/// How long uploads that are to end may still take for the chunk that is on its way.
const LAST_CHUNK: Duration = Duration::from_secs(3);

/// Where it is kept how far uploads came that have not ended. What it knows is a hint: the endpoint is asked.
#[async_trait]
pub trait Unfinished: fmt::Debug + Send + Sync {
    /// What a run that is over has left of an upload of this blob to a repository.
    async fn recall(&self, target: &str, blob: Digest) -> Option<Suspended>;

    /// Keeps how far one came.
    async fn keep(&self, target: &str, blob: Digest, left: Suspended);

    /// Forgets it: it has ended, or cannot be gone on with.
    async fn forget(&self, target: &str, blob: Digest);
}

/// The uploads of one run, and how they are told to end.
#[derive(Debug, Clone, Default)]
pub struct Suspension {
    told: CancellationToken,
    under_way: TaskTracker,
}

impl Suspension {
    /// Tells every upload to end where it stands, and waits until they have: for the chunk that is on its way, for three seconds
    /// at most.
    pub async fn suspend(&self) {
        self.told.cancel();
        self.under_way.close();
        // Those that did not end break off in the midst of a chunk.
        let _ = tokio::time::timeout(LAST_CHUNK, self.under_way.wait()).await;
    }

    /// Whether the uploads were told to end: what fails from now on says nothing of who it fails at.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.told.is_cancelled()
    }

    /// While it is held, an upload is under way.
    pub(super) fn hold(&self) -> TaskTrackerToken {
        self.under_way.token()
    }

    /// The bytes until the uploads are told to end; then an error, behind which whoever sends them in chunks begins no further one.
    pub(super) fn bound(&self, bytes: ByteStream, place: &str, blob: &Descriptor) -> ByteStream {
        let ended = StoreError::new(place, Step::ReadBlob, blob.digest, ErrorKind::Unavailable, "interrupted");
        let told = self.told.clone();
        let end = futures_util::stream::once(async move { Err(ended) });
        let until = bytes.take_until(told.clone().cancelled_owned());
        until.chain(end.take_while(move |_| std::future::ready(told.is_cancelled()))).boxed()
    }
}

/// What comes of an upload that an earlier run has left of a blob: it goes on, or begins anew, or somebody has brought the blob in the
/// meantime. `None` where nothing was left.
pub(super) async fn resumed(
    batch: &Batch,
    target: &dyn Target,
    blob: &Descriptor,
) -> Option<Result<Sought, StoreError>> {
    let unfinished = batch.unfinished(target, blob)?;
    let left = unfinished.recall(target.place(), blob.digest).await?;
    if target.has_blob(blob).await.is_ok_and(|there| there) {
        unfinished.forget(target.place(), blob.digest).await;
        return Some(Ok(Sought::Found));
    }
    let stored = left.standing.stored;
    match target.resume_upload(blob, &left).await {
        Ok(Some(upload)) => {
            tracing::info!(target = target.place(), digest = %blob.digest, stored, size = blob.size, "an upload resumes where it was interrupted");
            return Some(Ok(Sought::Session(upload)));
        }
        Ok(None) => unfinished.forget(target.place(), blob.digest).await,
        Err(error) => {
            tracing::info!(target = target.place(), digest = %blob.digest, noted = stored, "an interrupted upload restarts: {error}");
        }
    }
    // It has just been looked for.
    Some(target.begin_upload(blob, None).await.map(Sought::from))
}

/// Who is told how far the upload of a blob came, where that can be of use.
pub(super) fn progress(batch: &Batch, target: &dyn Target, blob: &Descriptor) -> Option<Progress> {
    let unfinished = batch.unfinished(target, blob)?.clone();
    let (place, digest) = (Arc::<str>::from(target.place()), blob.digest);
    Some(Arc::new(move |left| {
        let (unfinished, place) = (unfinished.clone(), place.clone());
        Box::pin(async move { unfinished.keep(&place, digest, left).await })
    }))
}

/// Nobody goes on with an upload of this blob: it has ended, or cannot be gone on with.
pub(super) async fn forget(batch: &Batch, target: &dyn Target, blob: &Descriptor) {
    if let Some(unfinished) = batch.unfinished(target, blob) {
        unfinished.forget(target.place(), blob.digest).await;
    }
}
