//! State that all copies of the process share: memory for transfers in flight, and the transfers of each blob to each
//! target.

use std::sync::Arc;

use super::blob::memory::{MemoryLimiter, MemoryPermit};
use super::blob::single_flight::Flights;
use super::blob::stragglers::Lanes;
use crate::fair_queue::Tenant;

/// Unit of memory, in bytes.
const UNIT: u64 = 64 * 1024;

/// Maximum memory of one transfer, in bytes: the queue of a fan-out, pieces that are buffered, and the buffers of the
/// connections.
const PER_TRANSFER: u64 = 4 * 1024 * 1024;

/// Memory of a transfer beside the chunk of its upload, in bytes, if the upload is chunked.
const BESIDE_CHUNK: u64 = 1024 * 1024;

/// Copy engine: one for the whole process, shared by all entries.
#[derive(Debug)]
pub struct Copier {
    pub(super) flights: Arc<Flights>,
    pub(super) lanes: Arc<Lanes>,
    memory: MemoryLimiter,
    units: u32,
    /// Tenant to which these copies belong.
    tenant: Tenant,
}

impl Copier {
    /// Creates an engine whose transfers hold at most `memory` bytes in all, but never less than one transfer needs (4
    /// MiB).
    #[must_use]
    pub fn new(memory: u64) -> Arc<Self> {
        let units = u32::try_from(memory.max(PER_TRANSFER) / UNIT).unwrap_or(u32::MAX);
        let (flights, lanes, memory) = (Arc::default(), Arc::default(), MemoryLimiter::new(units));
        Arc::new(Self { flights, lanes, memory, units, tenant: Tenant::default() })
    }

    /// Returns the same engine for the copies of one tenant. A tenant is an entry, by its name. Copies of other tenants
    /// get memory too, even if this tenant's copies hold theirs for long.
    #[must_use]
    pub fn for_tenant(&self, name: &str) -> Arc<Self> {
        let tenant = Tenant::from_name(name);
        let (flights, lanes, memory) = (self.flights.clone(), self.lanes.clone(), self.memory.clone());
        Arc::new(Self { flights, lanes, memory, units: self.units, tenant })
    }

    /// Waits for the memory that this number of transfers of `size` bytes needs together, or for as many of these
    /// transfers as fit. The uploads to the targets hold at most `chunk` bytes each.
    pub(super) async fn reserve(&self, size: u64, chunk: u64, transfers: usize) -> Vec<MemoryPermit> {
        let each = self.units_for(size, chunk);
        let fit = u32::try_from(transfers).unwrap_or(u32::MAX).min(self.units / each).max(1);
        let mut whole = self.memory.take(self.tenant, each * fit).await;
        let mut permits: Vec<_> = (1..fit).map(|_| whole.split(each)).collect();
        permits.push(whole);
        permits
    }

    /// Waits for the memory that one transfer of `size` bytes needs.
    pub(super) async fn reserve_one(&self, size: u64, chunk: u64) -> MemoryPermit {
        self.memory.take(self.tenant, self.units_for(size, chunk)).await
    }

    fn units_for(&self, size: u64, chunk: u64) -> u32 {
        let most = PER_TRANSFER.max(chunk.saturating_add(BESIDE_CHUNK));
        let units = size.min(most).div_ceil(UNIT).clamp(1, u64::from(self.units));
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
        assert_eq!(taken(), 64 * mib, "more than there is cannot be waited for");
    }
}
