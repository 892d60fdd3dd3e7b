//! Reservation of memory for the transfer of one blob to several targets. The first transfer that needs memory reserves
//! the memory for all targets at once. Otherwise the targets with memory could wait for a target that gets no memory.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OnceCell;

use super::memory::MemoryPermit;
use super::stragglers::{ProgressTracker, SeparateReadPermit};
use crate::copy::Copier;

#[derive(Debug)]
pub(crate) struct SharedReservation {
    copier: Arc<Copier>,
    size: u64,
    /// Largest number of bytes that an upload to one of the targets buffers.
    chunk: u64,
    /// Progress trackers of the targets. `None` for a target without siblings.
    trackers: Vec<Option<Arc<ProgressTracker>>>,
    is_filled: OnceCell<()>,
    reserved: Mutex<ReservedMemory>,
}

#[derive(Debug, Default)]
struct ReservedMemory {
    permits: Vec<MemoryPermit>,
    users: usize,
    closed: bool,
}

/// Resources of one transfer: the memory, and a permit if the transfer reads the source separately for its target.
#[derive(Debug)]
pub(crate) struct Reservation {
    share: Option<Arc<SharedReservation>>,
    _memory: MemoryPermit,
    _read_permit: Option<SeparateReadPermit>,
}

impl SharedReservation {
    /// Creates the reservation for a blob of `size` bytes, with one tracker for each target. Reserves no memory yet.
    pub(crate) fn new(
        copier: &Arc<Copier>,
        size: u64,
        chunk: u64,
        trackers: Vec<Option<Arc<ProgressTracker>>>,
    ) -> Arc<Self> {
        let (is_filled, reserved) = (OnceCell::new(), Mutex::default());
        Arc::new(Self { copier: copier.clone(), size, chunk, trackers, is_filled, reserved })
    }

    /// Waits for the resources of one transfer. The first caller waits for the memory of all targets that have not
    /// fallen behind. If the target of `tracker` has fallen behind, or the reservation has no memory left, the transfer
    /// reads the source separately for this target.
    pub(crate) async fn take(self: &Arc<Self>, tracker: Option<&Arc<ProgressTracker>>) -> Reservation {
        let is_behind = || tracker.is_some_and(|tracker| tracker.is_behind());
        if !self.reserved().closed && !is_behind() {
            self.is_filled.get_or_init(|| self.fill()).await;
        }
        // The target may have fallen behind during the wait.
        let memory = if is_behind() { None } else { self.reserved().permits.pop() };
        let Some(memory) = memory else { return take_alone(&self.copier, self.size, self.chunk, tracker).await };
        self.reserved().users += 1;
        Reservation { share: Some(self.clone()), _memory: memory, _read_permit: None }
    }

    async fn fill(&self) {
        let keeping_up =
            self.trackers.iter().filter(|tracker| !tracker.as_ref().is_some_and(|tracker| tracker.is_behind())).count();
        let mut permits = self.copier.reserve(self.size, self.chunk, keeping_up).await;
        let mut reserved = self.reserved();
        if reserved.closed {
            permits.truncate(1);
        }
        reserved.permits = permits;
    }

    /// Releases the memory that no transfer has taken. The caller then starts the shared read. A transfer that calls
    /// [`Self::take`] later reads the source separately for its target.
    pub(crate) fn close(&self) {
        let mut reserved = self.reserved();
        reserved.closed = true;
        reserved.permits.clear();
    }

    fn reserved(&self) -> MutexGuard<'_, ReservedMemory> {
        self.reserved.lock()
    }
}

/// Waits for the resources of a transfer with a separate read of the source. If the target has a tracker, first waits
/// for a permit for the separate read. Then waits for memory.
pub(crate) async fn take_alone(
    copier: &Copier,
    size: u64,
    chunk: u64,
    tracker: Option<&Arc<ProgressTracker>>,
) -> Reservation {
    let read_permit = match tracker {
        Some(tracker) => Some(tracker.separate_read(size).await),
        None => None,
    };
    Reservation { share: None, _memory: copier.reserve_one(size, chunk).await, _read_permit: read_permit }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // The last transfer also releases the memory that no transfer has taken. The remaining targets may wait for
        // other copies, and these copies may need the memory.
        let Some(share) = &self.share else { return };
        let mut reserved = share.reserved();
        reserved.users -= 1;
        if reserved.users == 0 {
            reserved.permits.clear();
        }
    }
}
