//! Division of an upload's bytes into chunks, and the hash of the bytes in these chunks.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::oci::Digester;
use crate::store::{StoreError, Verified};

/// Bytes of an upload that are not sent yet.
pub(crate) struct Feed {
    pub(crate) bytes: Verified,
    /// Rest of the latest piece from the source. No chunk contains this rest yet.
    piece: Bytes,
    /// The latest piece from the source, complete.
    whole: Bytes,
}

impl Feed {
    pub(crate) fn new(bytes: Verified) -> Self {
        Self { bytes, piece: Bytes::new(), whole: Bytes::new() }
    }

    /// Returns the hash of all bytes that [`Feed::fill`] has returned. `None` if the upload does not record its
    /// progress.
    pub(crate) fn hashed(&self) -> Option<Digester> {
        let mut hashed = self.bytes.hashed_before_last()?.clone();
        hashed.update(&self.whole[..self.whole.len() - self.piece.len()]);
        Some(hashed)
    }

    /// Adds bytes to `unsent` until there are `size` bytes, or until the source has no more bytes. The source returns
    /// the last bytes only after it has verified all bytes.
    pub(crate) async fn fill(&mut self, unsent: Bytes, size: usize) -> Result<Bytes, StoreError> {
        if !unsent.is_empty() && unsent.len() >= size {
            return Ok(unsent);
        }
        let mut chunk = BytesMut::with_capacity(size);
        chunk.extend_from_slice(&unsent);
        drop(unsent);
        while chunk.len() < size {
            if self.piece.is_empty() {
                let Some(piece) = self.bytes.next().await else { break };
                self.piece = piece?;
                self.whole = self.piece.clone();
            }
            let missing = size - chunk.len();
            chunk.extend_from_slice(&self.piece.split_to(missing.min(self.piece.len())));
        }
        Ok(chunk.freeze())
    }
}
