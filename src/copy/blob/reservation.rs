//! Reservation of memory for the transfer of one blob to several targets, made for all of them at once. Otherwise the
//! first targets would hold the memory that their siblings need to join the same read.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OnceCell;

use super::memory::MemoryPermit;
use super::stragglers::{Lane, OwnRead};
use crate::copy::Copier;

/// Memory reserved for one blob.
#[derive(Debug)]
pub(crate) struct SharedReservation {
    copier: Arc<Copier>,
    size: u64,
    /// Maximum memory of an upload to any of the targets, in bytes.
    chunk: u64,
    /// Lanes of the targets. `None` for a target without siblings.
    lanes: Vec<Option<Arc<Lane>>>,
    filled: OnceCell<()>,
    pot: Mutex<ReservedMemory>,
}

#[derive(Debug, Default)]
struct ReservedMemory {
    permits: Vec<MemoryPermit>,
    holders: usize,
    closed: bool,
}

/// Resources of one transfer: memory, and for a separate read the permission.
#[derive(Debug)]
pub(crate) struct Reservation {
    share: Option<Arc<SharedReservation>>,
    _memory: MemoryPermit,
    _own_read: Option<OwnRead>,
}

impl SharedReservation {
    /// Creates the reservation for a blob of `size` bytes, with one lane for each target. Nothing is reserved yet.
    pub(crate) fn new(copier: &Arc<Copier>, size: u64, chunk: u64, lanes: Vec<Option<Arc<Lane>>>) -> Arc<Self> {
        let (filled, pot) = (OnceCell::new(), Mutex::default());
        Arc::new(Self { copier: copier.clone(), size, chunk, lanes, filled, pot })
    }

    /// Waits for the resources of one transfer. The first caller waits for the memory of all targets that keep up. A
    /// target that does not keep up, or comes too late, reads alone.
    pub(crate) async fn take(self: &Arc<Self>, lane: Option<&Arc<Lane>>) -> Reservation {
        let is_behind = || lane.is_some_and(|lane| lane.is_behind());
        if !self.pot().closed && !is_behind() {
            self.filled.get_or_init(|| self.fill()).await;
        }
        // The target may have fallen behind while it waited here.
        let part = if is_behind() { None } else { self.pot().permits.pop() };
        let Some(memory) = part else { return take_alone(&self.copier, self.size, self.chunk, lane).await };
        self.pot().holders += 1;
        Reservation { share: Some(self.clone()), _memory: memory, _own_read: None }
    }

    async fn fill(&self) {
        let abreast = self.lanes.iter().filter(|lane| !lane.as_ref().is_some_and(|lane| lane.is_behind())).count();
        let mut permits = self.copier.reserve(self.size, self.chunk, abreast).await;
        let mut pot = self.pot();
        if pot.closed {
            permits.truncate(1);
        }
        pot.permits = permits;
    }

    /// Releases the resources that no transfer has taken: the read begins, and a later target reads alone.
    pub(crate) fn close(&self) {
        let mut pot = self.pot();
        pot.closed = true;
        pot.permits.clear();
    }

    fn pot(&self) -> MutexGuard<'_, ReservedMemory> {
        self.pot.lock()
    }
}

/// Waits for the resources of a transfer that reads alone: first for its turn in the lane, if it has siblings, then
/// for memory.
pub(crate) async fn take_alone(copier: &Copier, size: u64, chunk: u64, lane: Option<&Arc<Lane>>) -> Reservation {
    let own_read = match lane {
        Some(lane) => Some(lane.own_read(size).await),
        None => None,
    };
    Reservation { share: None, _memory: copier.reserve_one(size, chunk).await, _own_read: own_read }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // No other holder will begin to read soon, and the siblings may wait for other copies. So the unused memory of
        // the reservation is released.
        let Some(share) = &self.share else { return };
        let mut pot = share.pot();
        pot.holders -= 1;
        if pot.holders == 0 {
            pot.permits.clear();
        }
    }
}
