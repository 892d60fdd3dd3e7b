//! How many requests of one registry are in flight.
//!
//! A copy reads and writes at once, often within one registry, so permits could wait for each other in a ring.
//! They cannot here: a write enters when its first bytes are here, so who holds a permit to write waits for no permit
//! to read; a read that goes on in its midst does not queue; a read lets go as soon as its last byte is here; and blob
//! reads never take the last permit, so a write can always begin.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests in flight where nothing is configured.
pub(crate) const DEFAULT_CONCURRENT: usize = 32;

/// Which door a request goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everything whose answer does not wait for another request.
    Common,
    /// A blob read from its start: its body waits for whoever writes it.
    BlobRead,
    /// A blob read that goes on in the midst of a write.
    BlobResumed,
}

/// Held until the body is read.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    _held: [Option<OwnedSemaphorePermit>; 2],
}

/// The gate of one registry.
#[derive(Debug)]
pub(crate) struct Gate {
    all: Arc<Semaphore>,
    blob_reads: Arc<Semaphore>,
    /// With a single permit, blob reads pass beside it: else nothing could be copied within the registry.
    single: bool,
}

impl Gate {
    pub(crate) fn new(concurrent: Option<usize>) -> Self {
        let all = concurrent.unwrap_or(DEFAULT_CONCURRENT).clamp(1, Semaphore::MAX_PERMITS);
        let blob_reads = (all - 1).max(1);
        Self { all: Arc::new(Semaphore::new(all)), blob_reads: Arc::new(Semaphore::new(blob_reads)), single: all == 1 }
    }

    /// Waits for a permit, first come first served. Cancel safe.
    pub(crate) async fn enter(&self, door: Door) -> Permits {
        match door {
            Door::Common => Permits { _held: [acquire(&self.all).await, None] },
            Door::BlobRead => {
                let read = acquire(&self.blob_reads).await;
                let all = if self.single { None } else { acquire(&self.all).await };
                Permits { _held: [read, all] }
            }
            Door::BlobResumed => Permits { _held: [Arc::clone(&self.all).try_acquire_owned().ok(), None] },
        }
    }
}

/// `None` only if the semaphore were closed, which nobody does.
async fn acquire(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn blob_reads_leave_a_permit_for_a_write() {
        let gate = Gate::new(Some(3));
        let read = || gate.enter(Door::BlobRead).now_or_never();
        let (first, second) = (read().unwrap(), read().unwrap());
        assert!(read().is_none());
        let write = gate.enter(Door::Common).now_or_never().unwrap();
        assert!(gate.enter(Door::Common).now_or_never().is_none());
        assert!(gate.enter(Door::BlobResumed).now_or_never().is_some());
        drop((first, write));
        assert!(read().is_some());
        drop(second);
    }

    #[test]
    fn a_registry_with_one_permit_can_be_copied_within() {
        let gate = Gate::new(Some(1));
        let _read = gate.enter(Door::BlobRead).now_or_never().unwrap();
        let _write = gate.enter(Door::Common).now_or_never().unwrap();
        assert!(gate.enter(Door::Common).now_or_never().is_none());
        assert!(gate.enter(Door::BlobRead).now_or_never().is_none());
    }
}
