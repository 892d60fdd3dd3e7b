//! Ability of a registry to find a blob by a mount from the blob's own repository.

use std::sync::atomic::{AtomicU8, Ordering};

/// Ability of a registry to find a blob by a mount from the blob's own repository. The response to such a mount is 201
/// if the blob exists, and 202 with an open upload session if the blob does not exist. distribution-spec does not
/// require this: a registry that never mounts answers 202 even if it has the blob. Therefore the client tests the
/// ability once, with a blob that is known to exist.
#[derive(Debug, Default)]
pub(crate) struct OwnMount(AtomicU8);

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const WORKS: u8 = 2;

impl OwnMount {
    /// Returns true if the test has succeeded.
    pub(crate) fn works(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WORKS
    }

    /// Returns true to one caller only, which then runs the test. Until the test succeeds, all other callers treat such
    /// mounts as not supported.
    pub(crate) fn claim_test(&self) -> bool {
        self.0.compare_exchange(UNKNOWN, NO, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn record_result(&self, works: bool) {
        self.0.store(if works { WORKS } else { NO }, Ordering::Relaxed);
    }
}
