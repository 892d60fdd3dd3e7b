//! State that all copies of the process share: the memory for transfers in flight, the transfers in progress, and the
//! progress of each target.

use std::sync::Arc;

use super::blob::memory::{MemoryLimiter, MemoryPermit};
use super::blob::single_flight::Flights;
use super::blob::stragglers::ProgressTrackers;
use crate::fair_queue::Tenant;

/// Size of one unit of memory, in bytes.
const UNIT: u64 = 64 * 1024;

/// Maximum memory of one transfer, in bytes. If the size of a chunk plus [`BESIDES_CHUNK`] is larger, this sum is the
/// maximum.
const PER_TRANSFER: u64 = 4 * 1024 * 1024;

/// Memory that a chunked upload needs in addition to its chunk, in bytes.
const BESIDES_CHUNK: u64 = 1024 * 1024;

/// Copy engine: one for the whole process, shared by all entries.
#[derive(Debug)]
pub struct Copier {
    pub(super) flights: Arc<Flights>,
    pub(super) trackers: Arc<ProgressTrackers>,
    memory: MemoryLimiter,
    units: u32,
    /// Tenant that reserves the memory: one entry, or the default tenant.
    tenant: Tenant,
}

impl Copier {
    /// Creates an engine. All its transfers together reserve at most `memory` bytes. A value below 4 MiB counts as 4
    /// MiB, the memory of one transfer.
    #[must_use]
    pub fn new(memory: u64) -> Arc<Self> {
        let units = u32::try_from(memory.max(PER_TRANSFER) / UNIT).unwrap_or(u32::MAX);
        let (flights, trackers, memory) = (Arc::default(), Arc::default(), MemoryLimiter::new(units));
        Arc::new(Self { flights, trackers, memory, units, tenant: Tenant::default() })
    }

    /// Returns a copier for the entry `name`, which shares all state with this copier. The entry is a tenant of the
    /// memory limiter: the copies of one entry cannot take all memory from the copies of other entries.
    #[must_use]
    pub fn for_tenant(&self, name: &str) -> Arc<Self> {
        let tenant = Tenant::from_name(name);
        let (flights, trackers, memory) = (self.flights.clone(), self.trackers.clone(), self.memory.clone());
        Arc::new(Self { flights, trackers, memory, units: self.units, tenant })
    }

    /// Waits for the memory of `transfers` transfers of `size` bytes each, and returns one permit per transfer. If the
    /// whole memory is too small for all transfers, returns fewer permits, but at least one. Each upload buffers at
    /// most `chunk` bytes.
    pub(super) async fn reserve(&self, size: u64, chunk: u64, transfers: usize) -> Vec<MemoryPermit> {
        let each = self.units_for(size, chunk);
        let fit = u32::try_from(transfers).unwrap_or(u32::MAX).min(self.units / each).max(1);
        let mut whole = self.memory.take(self.tenant, each * fit).await;
        let mut permits: Vec<_> = (1..fit).map(|_| whole.split(each)).collect();
        permits.push(whole);
        permits
    }

    /// Waits for the memory of one transfer of `size` bytes. Its upload buffers at most `chunk` bytes.
    pub(super) async fn reserve_one(&self, size: u64, chunk: u64) -> MemoryPermit {
        self.memory.take(self.tenant, self.units_for(size, chunk)).await
    }

    fn units_for(&self, size: u64, chunk: u64) -> u32 {
        let maximum = PER_TRANSFER.max(chunk.saturating_add(BESIDES_CHUNK));
        let units = size.min(maximum).div_ceil(UNIT).clamp(1, u64::from(self.units));
        u32::try_from(units).unwrap_or(self.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn transfer_reserves_memory_of_its_chunk() {
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
        assert_eq!(taken(), 64 * mib, "a transfer that needs more than all memory gets all memory");
    }
}
