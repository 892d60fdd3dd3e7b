//! What all copies of the process share: memory for transfers in flight, and who sends which blob where.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flight::Flights;

/// The unit in which memory is handed out.
const UNIT: u64 = 64 * 1024;

/// What one transfer may hold: the queue of a fan-out, the piece that is kept back, a chunk of an upload.
const PER_TRANSFER: u64 = 4 * 1024 * 1024;

/// The engine. One for the whole process, shared by all entries.
#[derive(Debug)]
pub struct Copier {
    pub(super) flights: Arc<Flights>,
    memory: Arc<Semaphore>,
    units: u32,
}

impl Copier {
    /// An engine whose transfers hold at most `memory` bytes in all, but never less than one transfer needs (4 MiB).
    #[must_use]
    pub fn new(memory: u64) -> Arc<Self> {
        let units = u32::try_from(memory.max(PER_TRANSFER) / UNIT).unwrap_or(u32::MAX);
        let memory = Arc::new(Semaphore::new(units as usize));
        Arc::new(Self { flights: Arc::default(), memory, units })
    }

    /// Waits for the memory that a transfer of `size` bytes needs. First come, first served.
    pub(super) async fn reserve(&self, size: u64) -> OwnedSemaphorePermit {
        let units = size.min(PER_TRANSFER).div_ceil(UNIT).clamp(1, u64::from(self.units));
        let units = u32::try_from(units).unwrap_or(self.units);
        let permit = self.memory.clone().acquire_many_owned(units).await;
        permit.expect("the semaphore is never closed")
    }
}
