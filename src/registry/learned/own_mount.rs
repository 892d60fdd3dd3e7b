//! Result of the test of own mounts: mount requests whose source and target are the same repository.

use std::sync::atomic::{AtomicU8, Ordering};

/// Result of the test of own mounts at a registry. An own mount is a mount request whose source and target are the same
/// repository. If the repository has the blob, a registry with support for own mounts answers 201. If the repository
/// lacks the blob, the registry answers 202 and opens an upload session.
///
/// distribution-spec does not require this support: a registry that never mounts blobs answers 202 in both cases. So
/// the client tests the support once, with a blob that the repository has.
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

    /// Returns true to the first caller only. This caller must run the test. Until the test succeeds, [`Self::works`]
    /// returns false.
    pub(crate) fn claim_test(&self) -> bool {
        self.0.compare_exchange(UNKNOWN, NO, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn record_result(&self, works: bool) {
        self.0.store(if works { WORKS } else { NO }, Ordering::Relaxed);
    }
}
