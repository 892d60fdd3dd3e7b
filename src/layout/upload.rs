//! Upload of a blob into a layout. In a folder, the bytes go to a temporary file, which is renamed to its digest at the
//! end. In an archive, the bytes go to a region of the new file.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::ErrorContext;
use super::calls::Calls;
use super::disk::Disk;
use super::fault::Fault;
use super::new_content::NewContent;
use crate::oci::Digest;
use crate::store::{Step, StoreError, Upload, Verified};

/// Number of bytes that an upload collects before a write. An upload buffers at most this number of bytes plus one
/// piece.
const BATCH_BYTES: usize = 512 << 10;
/// Maximum number of pieces that an upload collects before a write. The limit bounds the memory for many tiny pieces.
const BATCH_PIECES: usize = 1024;

/// Upload in progress. Dropping the value discards the uploaded content.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) disk: Arc<Disk>,
    pub(super) calls: Calls,
    pub(super) context: ErrorContext,
    pub(super) digest: Digest,
    pub(super) file: NewContent,
}

#[async_trait]
impl Upload for Session {
    async fn send(self: Box<Self>, mut bytes: Verified) -> Result<(), StoreError> {
        let Self { disk, calls, context, digest, mut file } = *self;
        let failed = |step| context.to_error(step, digest);
        if bytes.digest() != digest {
            let other = Fault::OtherBlob { expected: digest.into(), actual: bytes.digest().into() };
            return Err(failed(Step::SendBlob)(other));
        }
        loop {
            let batch = gather(&mut bytes).await?;
            if batch.is_empty() {
                break;
            }
            let write = move || file.write(&batch).map(|()| file);
            file = calls.run(write).await.map_err(failed(Step::SendBlob))?;
        }
        calls.run(move || disk.commit(file, &digest)).await.map_err(failed(Step::CommitBlob))
    }

    async fn cancel(self: Box<Self>) {
        let calls = self.calls.clone();
        _ = calls
            .run(move || {
                drop(self);
                Ok(())
            })
            .await;
    }
}

/// Returns the next pieces to write. At the end of the blob, the result is empty.
async fn gather(bytes: &mut Verified) -> Result<Vec<Bytes>, StoreError> {
    let mut batch = Vec::new();
    let mut length = 0;
    while length < BATCH_BYTES && batch.len() < BATCH_PIECES {
        let Some(piece) = bytes.next().await else { break };
        let piece = piece?;
        length += piece.len();
        batch.push(piece);
    }
    Ok(batch)
}
