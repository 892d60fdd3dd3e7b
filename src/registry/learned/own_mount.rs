//! Ability of a registry to find a blob by a mount from the blob's own repository.

use std::sync::atomic::{AtomicU8, Ordering};

/// Ability of a registry to find a blob by a mount from the blob's own repository. If the blob exists, the response to
/// such a mount is 201. If the blob does not exist, the response is 202 with an open upload session.
///
/// distribution-spec does not require this ability: a registry that never mounts answers 202 in both cases. Therefore
/// the client tests the ability once, with a blob that exists.
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

    /// Returns true to the first caller only. This caller runs the test. Until the test succeeds, [`Self::works`]
    /// returns false.
    pub(crate) fn claim_test(&self) -> bool {
        self.0.compare_exchange(UNKNOWN, NO, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn record_result(&self, works: bool) {
        self.0.store(if works { WORKS } else { NO }, Ordering::Relaxed);
    }
}
