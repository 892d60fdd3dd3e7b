//! Outcome of the last HEAD of a blob at a registry.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::registry::http::retry::Operation;

/// Record of the last HEAD of a blob at a registry: failed or not. After a failure the next HEAD is sent once only, so
/// that a registry without HEAD gets one extra request per blob.
#[derive(Debug, Default)]
pub(crate) struct BlobHeads(AtomicBool);

impl BlobHeads {
    /// Returns the operation of the next HEAD, for the retry policy.
    pub(crate) fn operation(&self) -> Operation {
        if self.0.load(Ordering::Relaxed) { Operation::Glance } else { Operation::Look }
    }

    /// Records if a lookup failed. Returns true for the first failure after a success.
    pub(crate) fn record_outcome(&self, failed: bool) -> bool {
        !self.0.swap(failed, Ordering::Relaxed) && failed
    }
}
