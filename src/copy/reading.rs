//! A blob read from its source as one stream, which goes on by a ranged read where the connection broke.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::oci::Descriptor;
use crate::store::{ByteStream, Source, StoreError};

/// How often in a row a read may break off without having given a byte.
const FRUITLESS: u32 = 4;

/// The wait before the first new attempt; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

struct Reading {
    source: Arc<dyn Source>,
    blob: Descriptor,
    offset: u64,
    open: Option<ByteStream>,
    fruitless: u32,
    over: bool,
}

/// The bytes of `blob` from `offset` on. Transient errors are mended inside; any other is the last item.
pub(super) fn read(source: Arc<dyn Source>, blob: Descriptor, offset: u64) -> ByteStream {
    let reading = Reading { source, blob, offset, open: None, fruitless: 0, over: false };
    stream::unfold(reading, |mut reading| async move {
        let item = reading.next().await?;
        reading.over = item.is_err();
        Some((item, reading))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Result<bytes::Bytes, StoreError>> {
        while !self.over {
            let piece = match self.piece().await {
                Some(piece) => piece,
                // A stream may end without a byte more or break off: the caller's check of the length tells.
                None => return None,
            };
            match piece {
                Ok(bytes) => {
                    self.offset += bytes.len() as u64;
                    self.fruitless = 0;
                    return Some(Ok(bytes));
                }
                Err(error) if error.may_be_repeated() && self.fruitless < FRUITLESS => {
                    tracing::debug!(%error, offset = self.offset, "a read broke off and goes on");
                    self.open = None;
                    tokio::time::sleep(FIRST_WAIT * 2u32.pow(self.fruitless)).await;
                    self.fruitless += 1;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    async fn piece(&mut self) -> Option<Result<bytes::Bytes, StoreError>> {
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
