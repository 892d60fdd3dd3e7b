//! Memory for transfers in flight, allocated in units. It is first come, first served, but no party takes so much that
//! nothing is left for the others: a party holds at most three times what is free. So a party whose transfers hang
//! leaves a quarter free, a second one leaves a seventh of all, and each later one still finds some.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// Maximum share of a party, as a multiple of what it leaves free.
const MAX_TENANT_SHARE: u64 = 3;

/// Party that transfers: an entry, by its name. `None` is no particular party, which need not leave anything free.
pub(crate) type Tenant = Option<Arc<str>>;

/// Memory of the process.
#[derive(Debug)]
pub(crate) struct MemoryLimiter(Mutex<State>);

#[derive(Debug)]
struct State {
    free: u32,
    held: HashMap<Tenant, u32>,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    tenant: Tenant,
    units: u32,
    served: oneshot::Sender<MemoryPermit>,
}

/// Memory that is reserved until this value is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    memory: Arc<MemoryLimiter>,
    tenant: Tenant,
    units: u32,
}

impl MemoryLimiter {
    pub(crate) fn new(units: u32) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: units, held: HashMap::new(), waiting: VecDeque::new() })))
    }

    /// Waits for this number of units. The memory must have that many in all. Cancel safe.
    pub(crate) async fn take(self: &Arc<Self>, tenant: &Tenant, units: u32) -> MemoryPermit {
        let (served, turn) = oneshot::channel();
        self.lock().waiting.push_back(Waiter { tenant: tenant.clone(), units, served });
        let mut waiting = Waiting { memory: self, turn };
        self.serve();
        // The sender stays in the queue until it is used.
        (&mut waiting.turn).await.unwrap_or_else(|_| MemoryPermit {
            memory: self.clone(),
            tenant: tenant.clone(),
            units: 0,
        })
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> u32 {
        self.lock().free
    }

    /// Serves all waiters that may have what they wait for. Memory for a waiter that has just gone is released
    /// automatically.
    fn serve(self: &Arc<Self>) {
        loop {
            // The lock is released before memory is passed on: memory that no waiter takes is dropped here, and its
            // drop takes the lock.
            let Some((waiter, units)) = self.lock().next() else { return };
            let held = MemoryPermit { memory: self.clone(), tenant: waiter.tenant, units };
            drop(waiter.served.send(held));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    /// Takes the units of the next waiter to serve. A party that already holds too much is passed by others, but its
    /// own waiters keep their order: otherwise a waiter for much memory would wait for ever. For the same reason no
    /// waiter passes one for whom there is not enough free memory.
    fn next(&mut self) -> Option<(Waiter, u32)> {
        self.waiting.retain(|waiter| !waiter.served.is_closed());
        let mut passed = HashSet::new();
        let at = self.waiting.iter().position(|waiter| {
            let is_passed = passed.contains(&waiter.tenant) || self.exceeds_share(waiter);
            if is_passed {
                passed.insert(&waiter.tenant);
            }
            !is_passed
        })?;
        let waiter = self.waiting.get(at).filter(|waiter| waiter.units <= self.free)?;
        let units = waiter.units;
        self.free -= units;
        *self.held.entry(waiter.tenant.clone()).or_default() += units;
        self.waiting.remove(at).map(|waiter| (waiter, units))
    }

    fn exceeds_share(&self, waiter: &Waiter) -> bool {
        let held = self.held.get(&waiter.tenant).copied().unwrap_or(0);
        let left = u64::from(self.free.saturating_sub(waiter.units));
        waiter.tenant.is_some() && held > 0 && u64::from(held) + u64::from(waiter.units) > MAX_TENANT_SHARE * left
    }

    fn release(&mut self, tenant: &Tenant, units: u32) {
        self.free += units;
        if let Some(held) = self.held.get_mut(tenant) {
            *held -= units;
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }
}

impl MemoryPermit {
    /// Splits this number of units off, at most as many as there are.
    pub(crate) fn split(&mut self, units: u32) -> Self {
        let units = units.min(self.units);
        self.units -= units;
        Self { memory: self.memory.clone(), tenant: self.tenant.clone(), units }
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.memory.lock().release(&self.tenant, self.units);
        self.memory.serve();
    }
}

/// Place in the queue. Dropping it lets the waiters behind it pass.
struct Waiting<'a> {
    memory: &'a Arc<MemoryLimiter>,
    turn: oneshot::Receiver<MemoryPermit>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turn.close();
        // Memory that was assigned in the meantime is released.
        drop(self.turn.try_recv());
        self.memory.serve();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        Some(name.into())
    }

    fn now(memory: &Arc<MemoryLimiter>, name: &str, units: u32) -> Option<MemoryPermit> {
        memory.take(&tenant(name), units).now_or_never()
    }

    #[test]
    fn hanging_party_leaves_memory_to_others() {
        let memory = MemoryLimiter::new(32);
        let takes = |name: &str| std::iter::from_fn(|| now(&memory, name, 1)).collect::<Vec<_>>();
        let held = ["a", "b", "c", "d"].map(takes);
        assert_eq!(held.each_ref().map(Vec::len), [24, 6, 1, 1]);
        drop(held);
        assert_eq!(memory.free(), 32);
        assert_eq!(memory.lock().held.len(), 0);
    }

    #[test]
    fn idle_party_may_take_all_memory_unnamed_party_too() {
        let memory = MemoryLimiter::new(8);
        assert!(now(&memory, "a", 8).is_some());
        let of_nobody: Vec<_> = std::iter::from_fn(|| memory.take(&None, 1).now_or_never()).collect();
        assert_eq!(of_nobody.len(), 8);
    }

    #[test]
    fn large_waiter_is_not_passed_until_it_is_dropped() {
        let memory = MemoryLimiter::new(8);
        let first = now(&memory, "a", 6).unwrap();
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let wait = |tenant, units| -> Pin<Box<dyn Future<Output = MemoryPermit>>> {
            let mut waiting: Pin<Box<dyn Future<Output = MemoryPermit>>> = Box::pin({
                let (memory, tenant): (Arc<MemoryLimiter>, Tenant) = (memory.clone(), tenant);
                async move { memory.take(&tenant, units).await }
            });
            assert!(waiting.as_mut().now_or_never().is_none());
            waiting
        };
        let mut more = wait(a.clone(), 1);
        let much = wait(b, 4);
        let mut little = wait(c, 1);
        drop(much);
        assert!(little.as_mut().now_or_never().is_some(), "no waiter before it needs the free memory");
        assert!(more.as_mut().now_or_never().is_none());
        drop(first);
        assert!(more.as_mut().now_or_never().is_some());
    }

    #[test]
    fn large_waiter_is_passed_by_other_parties_only() {
        let memory = MemoryLimiter::new(8);
        let first = now(&memory, "a", 2).unwrap();
        let wait = |name: &str, units| -> Pin<Box<dyn Future<Output = MemoryPermit>>> {
            let (memory, tenant) = (memory.clone(), tenant(name));
            let mut waiting: Pin<Box<dyn Future<Output = MemoryPermit>>> =
                Box::pin(async move { memory.take(&tenant, units).await });
            assert!(waiting.as_mut().now_or_never().is_none(), "{units}");
            waiting
        };
        let mut much = wait("a", 5);
        let mut little = wait("a", 1);
        assert!(now(&memory, "b", 1).is_some());
        drop(first);
        let much = much.as_mut().now_or_never();
        assert!(much.is_some(), "it was first");
        drop(much);
        assert!(little.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn split_memory_is_released_in_parts() {
        let memory = MemoryLimiter::new(8);
        let mut whole = memory.take(&tenant("a"), 6).await;
        let part = whole.split(2);
        drop(whole);
        assert_eq!(memory.free(), 6);
        drop(part);
        assert_eq!(memory.free(), 8);
    }
}
