//! Result of the last HEAD of a blob at a registry.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::registry::http::retry::Operation;

/// True if the last HEAD of a blob at a registry failed. After a failure, the client sends the HEAD of the next blob
/// without retries. So a registry without support for HEAD gets only one additional request for each blob.
#[derive(Debug, Default)]
pub(crate) struct BlobHeads(AtomicBool);

impl BlobHeads {
    /// Returns the operation of the next HEAD, for the retry policy.
    pub(crate) fn operation(&self) -> Operation {
        if self.0.load(Ordering::Relaxed) { Operation::FindBlobOnce } else { Operation::FindBlob }
    }

    /// Records whether a HEAD failed. Returns true if this HEAD failed and the HEAD before did not fail.
    pub(crate) fn record_outcome(&self, failed: bool) -> bool {
        !self.0.swap(failed, Ordering::Relaxed) && failed
    }
}
