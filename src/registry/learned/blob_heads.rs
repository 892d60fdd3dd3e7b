//! Result of the last HEAD of a blob at a registry.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::registry::http::retry::Operation;

/// Result of the last HEAD of a blob at a registry; true if the HEAD failed. After a failure, the client does not
/// repeat the next failed HEAD. So a registry without support for HEAD gets only one additional request per blob.
#[derive(Debug, Default)]
pub(crate) struct BlobHeads(AtomicBool);

impl BlobHeads {
    /// Returns the operation of the next HEAD, for the retry policy.
    pub(crate) fn operation(&self) -> Operation {
        if self.0.load(Ordering::Relaxed) { Operation::FindBlobOnce } else { Operation::FindBlob }
    }

    /// Records if a HEAD failed. Returns true for a failure directly after a success, and for a failure of the first
    /// HEAD.
    pub(crate) fn record_outcome(&self, failed: bool) -> bool {
        !self.0.swap(failed, Ordering::Relaxed) && failed
    }
}
