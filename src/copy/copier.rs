//! What all copies of the process share: memory for transfers in flight, and who sends which blob where.

use std::sync::Arc;

use super::flight::Flights;
use super::lane::Lanes;
use super::memory::{Held, Memory, Party};

/// The unit in which memory is handed out.
const UNIT: u64 = 64 * 1024;

/// What one transfer may hold: the queue of a fan-out, the pieces that are kept back, what the connections buffer.
const PER_TRANSFER: u64 = 4 * 1024 * 1024;

/// What a transfer holds beside the chunk of its upload, where that goes in chunks.
const BESIDE_CHUNK: u64 = 1024 * 1024;

/// The engine. One for the whole process, shared by all entries.
#[derive(Debug)]
pub struct Copier {
    pub(super) flights: Arc<Flights>,
    pub(super) lanes: Arc<Lanes>,
    memory: Arc<Memory>,
    units: u32,
    /// Whose copies these are.
    party: Party,
}

impl Copier {
    /// An engine whose transfers hold at most `memory` bytes in all, but never less than one transfer needs (4 MiB).
    #[must_use]
    pub fn new(memory: u64) -> Arc<Self> {
        let units = u32::try_from(memory.max(PER_TRANSFER) / UNIT).unwrap_or(u32::MAX);
        let (flights, lanes, memory) = (Arc::default(), Arc::default(), Memory::new(units));
        Arc::new(Self { flights, lanes, memory, units, party: None })
    }

    /// The same engine for the copies of one party, an entry by its name: those of others get memory too, however long its own hold
    /// theirs.
    #[must_use]
    pub fn of(&self, party: &str) -> Arc<Self> {
        let (flights, lanes, memory) = (self.flights.clone(), self.lanes.clone(), self.memory.clone());
        Arc::new(Self { flights, lanes, memory, units: self.units, party: Some(party.into()) })
    }

    /// Waits for the memory that so many transfers of `size` bytes need together, or as many of them as fit at all, to targets
    /// whose uploads hold at most `chunk` bytes each.
    pub(super) async fn reserve(&self, size: u64, chunk: u64, transfers: usize) -> Vec<Held> {
        let each = self.units_of(size, chunk);
        let fit = u32::try_from(transfers).unwrap_or(u32::MAX).min(self.units / each).max(1);
        let mut whole = self.memory.take(&self.party, each * fit).await;
        let mut permits: Vec<_> = (1..fit).map(|_| whole.split(each)).collect();
        permits.push(whole);
        permits
    }

    /// Waits for the memory that one transfer of `size` bytes needs.
    pub(super) async fn reserve_one(&self, size: u64, chunk: u64) -> Held {
        self.memory.take(&self.party, self.units_of(size, chunk)).await
    }

    fn units_of(&self, size: u64, chunk: u64) -> u32 {
        let most = PER_TRANSFER.max(chunk.saturating_add(BESIDE_CHUNK));
        let units = size.min(most).div_ceil(UNIT).clamp(1, u64::from(self.units));
        u32::try_from(units).unwrap_or(self.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transfer_takes_the_memory_of_its_chunk() {
        let (mib, copier) = (1 << 20, Copier::new(64 << 20));
        let taken = || u64::from(copier.units - copier.memory.free()) * UNIT;
        let plain = copier.reserve_one(100 * mib, 0).await;
        assert_eq!(taken(), 4 * mib);
        drop(plain);
        let two = copier.reserve(100 * mib, 8 * mib, 2).await;
        assert_eq!((two.len(), taken()), (2, 18 * mib));
        drop(two);
        let small = copier.reserve_one(mib, 8 * mib).await;
        assert_eq!(taken(), mib);
        drop(small);
        let _all = copier.reserve_one(1000 * mib, 999 * mib).await;
        assert_eq!(taken(), 64 * mib, "more than there is cannot be waited for");
    }
}
