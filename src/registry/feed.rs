//! The bytes of an upload, cut into chunks as they come, and the hash of what was cut.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::oci::Digester;
use crate::store::{StoreError, Verified};

/// The bytes that are still to come.
pub(super) struct Feed {
    pub(super) bytes: Verified,
    /// The rest of the last piece.
    piece: Bytes,
    /// That piece as it came.
    whole: Bytes,
}

impl Feed {
    pub(super) fn new(bytes: Verified) -> Self {
        Self { bytes, piece: Bytes::new(), whole: Bytes::new() }
    }

    /// The hash of all that has been taken out; `None` where nobody wants to know.
    pub(super) fn hashed(&self) -> Option<Digester> {
        let mut hashed = self.bytes.hashed_before_last()?.clone();
        hashed.update(&self.whole[..self.whole.len() - self.piece.len()]);
        Some(hashed)
    }

    /// Adds to what waits to be sent until that is so many bytes, or all there are: the last come when all are proven.
    pub(super) async fn fill(&mut self, waiting: Bytes, size: usize) -> Result<Bytes, StoreError> {
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
