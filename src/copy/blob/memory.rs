//! Limiter of the memory for transfers in flight, in units of 64 KiB. The limiter serves the tenants (entries) in turn.
//! If a tenant already has memory, its new total may be at most three times the memory that stays free. So if many
//! transfers of one tenant hang, some memory stays free for the other tenants.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use crate::fair_queue::{Resource, Tenant, Unavailable, WaitQueue};

/// Maximum memory of a tenant, as a multiple of the memory that stays free. The limit does not apply to the first
/// permit of a tenant, and not to the default tenant.
const MAX_TENANT_SHARE: u64 = 3;

type MemoryQueue = WaitQueue<MemoryState, 1>;

/// Limiter of the memory of the process, with a queue of the transfers that wait for memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLimiter(Arc<MemoryQueue>);

#[derive(Debug)]
struct MemoryState {
    queue: Weak<MemoryQueue>,
    free: u32,
    /// Number of units that each tenant has taken.
    taken: HashMap<Tenant, u32>,
}

/// Memory that is reserved until this value is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    queue: Arc<MemoryQueue>,
    tenant: Tenant,
    units: u32,
}

impl MemoryLimiter {
    pub(crate) fn new(units: u32) -> Self {
        Self(WaitQueue::new(|queue| MemoryState { queue: queue.clone(), free: units, taken: HashMap::new() }))
    }

    /// Waits for `units` units of memory. `units` must not exceed the whole memory, and 0 counts as 1. Cancel safe.
    pub(crate) async fn take(&self, tenant: Tenant, units: u32) -> MemoryPermit {
        let amount = NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN);
        let (permit, _) = self.0.acquire(tenant, 0, amount).await;
        // `acquire` always returns a permit while the queue exists. If `acquire` returned none, the transfer would
        // continue without memory, because a deadlock would be worse.
        permit.unwrap_or_else(|| MemoryPermit { queue: self.0.clone(), tenant, units: 0 })
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> u32 {
        self.0.with_resource(|memory| memory.free)
    }
}

impl Resource for MemoryState {
    type Grant = MemoryPermit;

    /// Takes the units.
    /// - If the tenant would exceed its share, the queue serves other tenants first.
    /// - If the free memory is too small, the queue serves no other waiter first. Otherwise a waiter for much memory
    ///   could wait for ever.
    fn take(&mut self, tenant: Tenant, _: usize, amount: NonZeroU32, _: Instant) -> Result<MemoryPermit, Unavailable> {
        let units = amount.get();
        if self.exceeds_share(tenant, units) {
            return Err(Unavailable::ForTenant);
        }
        let queue = self.queue.upgrade().filter(|_| units <= self.free).ok_or(Unavailable::UntilChanged)?;
        self.free -= units;
        *self.taken.entry(tenant).or_default() += units;
        Ok(MemoryPermit { queue, tenant, units })
    }
}

impl MemoryState {
    fn exceeds_share(&self, tenant: Tenant, units: u32) -> bool {
        let taken = self.taken.get(&tenant).copied().unwrap_or(0);
        let free_after = u64::from(self.free.saturating_sub(units));
        tenant != Tenant::default() && taken > 0 && u64::from(taken) + u64::from(units) > MAX_TENANT_SHARE * free_after
    }

    fn release(&mut self, tenant: Tenant, units: u32) {
        self.free += units;
        if let Some(taken) = self.taken.get_mut(&tenant) {
            *taken -= units;
            if *taken == 0 {
                self.taken.remove(&tenant);
            }
        }
    }
}

impl MemoryPermit {
    /// Splits off a permit of `units` units, at most as many units as this permit has.
    pub(crate) fn split(&mut self, units: u32) -> Self {
        let units = units.min(self.units);
        self.units -= units;
        Self { queue: self.queue.clone(), tenant: self.tenant, units }
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.queue.change(|memory| memory.release(self.tenant, self.units));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    type Taking = Pin<Box<dyn Future<Output = MemoryPermit>>>;

    fn take_now(memory: &MemoryLimiter, name: &str, units: u32) -> Option<MemoryPermit> {
        memory.take(Tenant::from_name(name), units).now_or_never()
    }

    /// Starts to wait for memory, and asserts that the free memory does not suffice.
    fn wait(memory: &MemoryLimiter, name: &str, units: u32) -> Taking {
        let (memory, tenant) = (memory.clone(), Tenant::from_name(name));
        let mut waiting: Taking = Box::pin(async move { memory.take(tenant, units).await });
        assert!(waiting.as_mut().now_or_never().is_none(), "{name} {units}");
        waiting
    }

    #[test]
    fn hanging_tenant_leaves_memory_to_others() {
        let memory = MemoryLimiter::new(32);
        let takes = |name: &str| std::iter::from_fn(|| take_now(&memory, name, 1)).collect::<Vec<_>>();
        let taken = ["a", "b", "c", "d"].map(takes);
        assert_eq!(taken.each_ref().map(Vec::len), [24, 6, 1, 1]);
        drop(taken);
        assert_eq!(memory.free(), 32);
        assert_eq!(memory.0.with_resource(|memory| memory.taken.len()), 0);
    }

    #[test]
    fn idle_tenant_may_take_all_memory_default_tenant_too() {
        let memory = MemoryLimiter::new(8);
        assert!(take_now(&memory, "a", 8).is_some());
        let by_default_tenant: Vec<_> =
            std::iter::from_fn(|| memory.take(Tenant::default(), 1).now_or_never()).collect();
        assert_eq!(by_default_tenant.len(), 8);
    }

    #[test]
    fn large_waiter_is_not_passed_until_it_is_dropped() {
        let memory = MemoryLimiter::new(8);
        let first = take_now(&memory, "a", 6).unwrap();
        let mut more = wait(&memory, "a", 1);
        let much = wait(&memory, "b", 4);
        let mut little = wait(&memory, "c", 1);
        drop(much);
        assert!(little.as_mut().now_or_never().is_some(), "no waiter before it needs the free memory");
        assert!(more.as_mut().now_or_never().is_none());
        drop(first);
        assert!(more.as_mut().now_or_never().is_some());
    }

    #[test]
    fn large_waiter_is_passed_by_other_tenants_only() {
        let memory = MemoryLimiter::new(8);
        let first = take_now(&memory, "a", 2).unwrap();
        let mut much = wait(&memory, "a", 5);
        let mut little = wait(&memory, "a", 1);
        assert!(take_now(&memory, "b", 1).is_some());
        drop(first);
        let much = much.as_mut().now_or_never();
        assert!(much.is_some(), "the waiter for much memory was first");
        drop(much);
        assert!(little.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn split_memory_is_released_in_parts() {
        let memory = MemoryLimiter::new(8);
        let mut whole = memory.take(Tenant::from_name("a"), 6).await;
        let part = whole.split(2);
        drop(whole);
        assert_eq!(memory.free(), 6);
        drop(part);
        assert_eq!(memory.free(), 8);
    }

    #[test]
    fn tenants_are_served_in_turn() {
        let memory = MemoryLimiter::new(4);
        let first = take_now(&memory, "c", 4).unwrap();
        let mut waiting = [("big", 4), ("big", 4), ("small", 4)].map(|(name, units)| Some(wait(&memory, name, units)));
        drop(first);
        let mut order = Vec::new();
        while order.len() < waiting.len() {
            let is_served = |slot: &mut Option<Taking>| {
                slot.as_mut().is_some_and(|taking| taking.as_mut().now_or_never().is_some())
            };
            let index = waiting.iter_mut().position(is_served).expect("all memory is free");
            waiting[index] = None;
            order.push(index);
        }
        assert_eq!(order, [0, 2, 1]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_waiter_is_lost_under_many_cancellations() {
        let memory = MemoryLimiter::new(8);
        let tasks = (0..200_u32).map(|n| {
            let memory = memory.clone();
            tokio::spawn(async move {
                for round in 0..50 {
                    let tenant = Tenant::from_name(["a", "b", "c"][n as usize % 3]);
                    let taking = memory.take(tenant, 1 + (n + round) % 8);
                    // Every third waiter is cancelled after one poll.
                    let permit = if (n + round) % 3 == 0 { taking.now_or_never() } else { Some(taking.await) };
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!((memory.free(), memory.0.is_empty()), (8, true));
    }
}
