//! Cutting of an upload's bytes into chunks as they arrive, and the hash of the bytes that were cut.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::oci::Digester;
use crate::store::{StoreError, Verified};

/// Bytes that are still to be sent.
pub(crate) struct Feed {
    pub(crate) bytes: Verified,
    /// Rest of the last piece.
    piece: Bytes,
    /// The last piece as it arrived.
    whole: Bytes,
}

impl Feed {
    pub(crate) fn new(bytes: Verified) -> Self {
        Self { bytes, piece: Bytes::new(), whole: Bytes::new() }
    }

    /// Returns the hash of all bytes that were taken out; `None` if no listener follows the upload.
    pub(crate) fn hashed(&self) -> Option<Digester> {
        let mut hashed = self.bytes.hashed_before_last()?.clone();
        hashed.update(&self.whole[..self.whole.len() - self.piece.len()]);
        Some(hashed)
    }

    /// Adds bytes to `waiting` until it has `size` bytes or all bytes that remain. The last bytes arrive only after all
    /// bytes are verified.
    pub(crate) async fn fill(&mut self, waiting: Bytes, size: usize) -> Result<Bytes, StoreError> {
        if !waiting.is_empty() && waiting.len() >= size {
            return Ok(waiting);
        }
        let mut chunk = BytesMut::with_capacity(size);
        chunk.extend_from_slice(&waiting);
        drop(waiting);
        while chunk.len() < size {
            if self.piece.is_empty() {
                let Some(piece) = self.bytes.next().await else { break };
                self.piece = piece?;
                self.whole = self.piece.clone();
            }
            let room = size - chunk.len();
            chunk.extend_from_slice(&self.piece.split_to(room.min(self.piece.len())));
        }
        Ok(chunk.freeze())
    }
}
