//! Stream of a blob from its source. After a broken connection, the stream resumes with a ranged read.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::oci::Descriptor;
use crate::store::{ByteStream, Source, StoreError};

/// Maximum number of successive retries that return no byte. After the last retry, the read fails.
const MAX_FRUITLESS_RETRIES: u32 = 4;

/// Wait before the first retry. The wait doubles with each retry that returns no byte.
const FIRST_WAIT: Duration = Duration::from_millis(200);

struct Reading {
    source: Arc<dyn Source>,
    blob: Descriptor,
    offset: u64,
    open: Option<ByteStream>,
    fruitless_retries: u32,
    ended: bool,
}

/// Returns the bytes of `blob` from `offset` on. If a read ends with a transient error, the stream reads again from the
/// current position. If the error is not transient, or all retries are used up, the error is the last item.
pub(crate) fn read(source: Arc<dyn Source>, blob: Descriptor, offset: u64) -> ByteStream {
    let reading = Reading { source, blob, offset, open: None, fruitless_retries: 0, ended: false };
    stream::unfold(reading, |mut reading| async move {
        let item = reading.next().await?;
        reading.ended = item.is_err();
        Some((item, reading))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Result<bytes::Bytes, StoreError>> {
        while !self.ended {
            let piece = match self.next_piece().await {
                Some(piece) => piece,
                // The caller checks whether the stream ended too early.
                None => return None,
            };
            match piece {
                Ok(bytes) => {
                    self.offset += bytes.len() as u64;
                    self.fruitless_retries = 0;
                    return Some(Ok(bytes));
                }
                Err(error) if error.may_be_repeated() && self.fruitless_retries < MAX_FRUITLESS_RETRIES => {
                    tracing::debug!(%error, offset = self.offset, "an interrupted read resumes");
                    self.open = None;
                    tokio::time::sleep(FIRST_WAIT * 2u32.pow(self.fruitless_retries)).await;
                    self.fruitless_retries += 1;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    async fn next_piece(&mut self) -> Option<Result<bytes::Bytes, StoreError>> {
        if self.open.is_none() {
            if self.offset > 0 && self.offset == self.blob.size {
                return None;
            }
            match self.source.blob(&self.blob, self.offset).await {
                Ok(stream) => self.open = Some(stream),
                Err(error) => return Some(Err(error)),
            }
        }
        self.open.as_mut()?.next().await
    }
}
