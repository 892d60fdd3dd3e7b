//! Wait queue for a limited resource: permits, rates, bandwidth or memory. The queue serves the waiting tenants in
//! turn. The resource decides whether an amount is available.

use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::queue::{FairQueue, Ticket};
use super::tenant::Tenant;

/// Resource that callers wait for.
pub(crate) trait Resource: Send + 'static {
    /// Part of the resource that a served caller gets. When a grant is dropped, the grant can lock the queue to return
    /// its part. So code that holds the queue's lock must not drop a grant.
    type Grant: std::fmt::Debug + Send + 'static;

    /// Number of preferred priorities. The queue serves waiters with a priority below this number before all other
    /// waiters.
    const PREFERRED: usize = 0;

    /// Takes the whole `amount` for a waiter of this priority, or nothing.
    ///
    /// # Errors
    /// If the amount is not available, returns the event that the waiter must wait for.
    fn take(
        &mut self,
        tenant: Tenant,
        priority: usize,
        amount: NonZeroU32,
        now: Instant,
    ) -> Result<Self::Grant, Unavailable>;
}

/// Event that a waiter must wait for, because the resource refused the amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The next change of the resource.
    UntilChanged,
    /// The next change of the resource. Only this tenant must wait: the amount can be available to other tenants.
    ForTenant,
    /// This time, or an earlier change of the resource.
    Until(Instant),
}

/// Resource, and its waiting callers.
#[derive(Debug)]
pub(crate) struct WaitQueue<R: Resource, const PRIORITIES: usize> {
    own: Weak<Self>,
    state: Mutex<WaitQueueState<R, PRIORITIES>>,
}

#[derive(Debug)]
struct WaitQueueState<R: Resource, const PRIORITIES: usize> {
    resource: R,
    queue: FairQueue<Waiter<R::Grant>, PRIORITIES>,
    /// Time at which a spawned task serves the queue next.
    alarm: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<G> {
    tenant: Tenant,
    amount: NonZeroU32,
    served: oneshot::Sender<G>,
}

/// Served callers with their grants. The queue sends the grants after it has released the lock.
type Served<G> = Vec<(oneshot::Sender<G>, G)>;

impl<R: Resource, const PRIORITIES: usize> WaitQueue<R, PRIORITIES> {
    /// Creates the queue and its resource. `resource` gets a weak reference to the queue, for the grants.
    pub(crate) fn new(resource: impl FnOnce(&Weak<Self>) -> R) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            let state = WaitQueueState { resource: resource(own), queue: FairQueue::default(), alarm: None };
            Self { own: own.clone(), state: Mutex::new(state) }
        })
    }

    /// Waits until `amount` is available, and takes this amount. The grant is `None` only if the queue no longer
    /// exists. Also returns the duration of the wait. The duration counts only waits for a point in time. If the
    /// callers in the queue waited only for a change of the resource, the duration is zero. Cancel safe: if the caller
    /// is cancelled, its grant is dropped.
    pub(crate) async fn acquire(
        &self,
        tenant: Tenant,
        priority: usize,
        amount: NonZeroU32,
    ) -> (Option<R::Grant>, Duration) {
        let began = Instant::now();
        let (waiting, by_clock) = {
            let mut state = self.lock();
            // The queue first serves the callers that already wait, at any priority.
            if state.queue.is_empty()
                && let Ok(grant) = state.resource.take(tenant, priority, amount, began)
            {
                return (Some(grant), Duration::ZERO);
            }
            let (served, granted) = oneshot::channel();
            let ticket = state.queue.push(tenant, priority, Waiter { tenant, amount, served });
            let by_clock = self.serve(state);
            (Waiting { queue: self, tenant, priority, ticket, granted }, by_clock)
        };
        let grant = waiting.wait_for_grant().await;
        (grant, if by_clock { began.elapsed() } else { Duration::ZERO })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Gives access to the resource without serving waiting callers.
    pub(crate) fn with_resource<T>(&self, access: impl FnOnce(&mut R) -> T) -> T {
        access(&mut self.lock().resource)
    }

    /// Changes the resource, and serves the callers that can be served now.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut R) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state.resource);
        self.serve(state);
        changed
    }

    /// Serves all callers that can be served now. If a caller waits for a point in time, sets an alarm and returns
    /// true.
    fn serve(&self, mut state: MutexGuard<'_, WaitQueueState<R, PRIORITIES>>) -> bool {
        if state.queue.is_empty() {
            return false;
        }
        let mut served = Vec::new();
        let next = state.serve(Instant::now(), &mut served);
        if let Some(next) = next
            && state.alarm.is_none_or(|alarm| next < alarm)
            // Without a runtime, no caller waits, so no alarm is needed.
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.alarm = Some(next);
            runtime.spawn(serve_at(self.own.clone(), next));
        }
        drop(state);
        for (waiter, grant) in served {
            // A cancelled caller does not need its grant.
            drop(waiter.send(grant));
        }
        next.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, WaitQueueState<R, PRIORITIES>> {
        self.state.lock()
    }
}

/// Serves the queue once, at this time.
async fn serve_at<R: Resource, const PRIORITIES: usize>(queue: Weak<WaitQueue<R, PRIORITIES>>, at: Instant) {
    tokio::time::sleep_until(at).await;
    let Some(queue) = queue.upgrade() else { return };
    let mut state = queue.lock();
    state.alarm.take_if(|alarm| *alarm == at);
    queue.serve(state);
}

impl<R: Resource, const PRIORITIES: usize> WaitQueueState<R, PRIORITIES> {
    /// Takes the grants of all callers that can be served now. If callers wait for a point in time, returns the
    /// earliest of these times.
    fn serve(&mut self, now: Instant, served: &mut Served<R::Grant>) -> Option<Instant> {
        let Self { resource, queue, .. } = self;
        let mut unavailable: [Option<Unavailable>; PRIORITIES] = [None; PRIORITIES];
        let mut grant = None;
        let mut try_take = |grant: &mut Option<R::Grant>, priority: usize, waiter: &Waiter<R::Grant>| {
            if unavailable[priority].is_none() {
                match resource.take(waiter.tenant, priority, waiter.amount, now) {
                    Ok(taken) => *grant = Some(taken),
                    Err(Unavailable::ForTenant) => {}
                    Err(until) => unavailable[priority] = Some(until),
                }
            }
            grant.is_some()
        };
        loop {
            let first =
                queue.next(|priority, waiter| priority < R::PREFERRED && try_take(&mut grant, priority, waiter));
            let next = first.or_else(|| queue.next(|priority, waiter| try_take(&mut grant, priority, waiter)));
            let (Some((_, waiter)), Some(taken)) = (next, grant.take()) else { break };
            served.push((waiter.served, taken));
        }
        let times = unavailable.into_iter().flatten().filter_map(|unavailable| match unavailable {
            Unavailable::Until(at) => Some(at),
            Unavailable::UntilChanged | Unavailable::ForTenant => None,
        });
        times.min()
    }
}

/// Waiting caller. The drop of this value removes the caller from the queue, and serves the callers that can now be
/// served.
struct Waiting<'a, R: Resource, const PRIORITIES: usize> {
    queue: &'a WaitQueue<R, PRIORITIES>,
    tenant: Tenant,
    priority: usize,
    ticket: Ticket,
    granted: oneshot::Receiver<R::Grant>,
}

impl<R: Resource, const PRIORITIES: usize> Waiting<'_, R, PRIORITIES> {
    async fn wait_for_grant(mut self) -> Option<R::Grant> {
        (&mut self.granted).await.ok()
    }
}

impl<R: Resource, const PRIORITIES: usize> Drop for Waiting<'_, R, PRIORITIES> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let cancelled = state.queue.remove(self.tenant, self.priority, self.ticket);
        if cancelled.is_some() {
            // The cancelled caller was perhaps the first in its queue, and blocked other callers.
            self.queue.serve(state);
        } else {
            drop(state);
        }
        drop(cancelled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resource of one cell per second for each priority.
    struct Slow([Instant; 2]);

    impl Resource for Slow {
        type Grant = ();

        fn take(&mut self, _: Tenant, priority: usize, _: NonZeroU32, now: Instant) -> Result<(), Unavailable> {
            if self.0[priority] > now {
                return Err(Unavailable::Until(self.0[priority]));
            }
            self.0[priority] = now + Duration::from_secs(1);
            Ok(())
        }
    }

    type Shared = Arc<WaitQueue<Slow, 2>>;

    fn queue() -> Shared {
        WaitQueue::new(|_| Slow([Instant::now(); 2]))
    }

    async fn acquire(queue: &Shared, tenant: &str, priority: usize) -> Duration {
        let (granted, waited) = queue.acquire(Tenant::from_name(tenant), priority, NonZeroU32::MIN).await;
        assert_eq!(granted, Some(()));
        waited
    }

    /// Starts the callers in this order. Returns the callers in the order in which the queue served the callers, each
    /// with the elapsed seconds.
    async fn order(queue: &Shared, callers: &[(&'static str, usize)]) -> Vec<(&'static str, u64)> {
        let began = Instant::now();
        let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
        for (tenant, priority) in callers.iter().copied() {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                acquire(&queue, tenant, priority).await;
                sender.send((tenant, began.elapsed().as_secs())).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(next) = served.recv().await {
            order.push(next);
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn busy_tenant_does_not_delay_others() {
        let callers = [("big", 0), ("big", 0), ("big", 0), ("big", 0), ("small", 0), ("small", 0)];
        let expected = [("big", 0), ("big", 1), ("small", 2), ("big", 3), ("small", 4), ("big", 5)];
        assert_eq!(order(&queue(), &callers).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn busy_priority_does_not_delay_another() {
        let queue = queue();
        assert_eq!(acquire(&queue, "a", 0).await, Duration::ZERO);
        let callers = [("a", 0), ("a", 0), ("a", 1), ("b", 1)];
        assert_eq!(order(&queue, &callers).await, [("a", 0), ("a", 1), ("b", 1), ("a", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waiter_costs_nobody_a_turn() {
        let queue = queue();
        acquire(&queue, "a", 0).await;
        let cancelled_task = tokio::spawn({
            let queue = queue.clone();
            async move { acquire(&queue, "cancelled", 0).await }
        });
        tokio::task::yield_now().await;
        let remaining = tokio::spawn({
            let queue = queue.clone();
            async move { order(&queue, &[("a", 0), ("b", 0)]).await }
        });
        tokio::task::yield_now().await;
        cancelled_task.abort();
        assert_eq!(remaining.await.unwrap(), [("a", 1), ("b", 2)]);
        let state = queue.lock();
        assert!(state.queue.is_empty() && state.alarm.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn changed_resource_serves_waiters() {
        let queue = queue();
        queue.change(|slow| slow.0[0] = Instant::now() + Duration::from_secs(3600));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { order(&queue, &[("a", 0), ("a", 0)]).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        queue.change(|slow| slow.0[0] = Instant::now());
        assert_eq!(waiting.await.unwrap(), [("a", 5), ("a", 6)]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_waited_for_the_clock_is_returned() {
        let queue = queue();
        acquire(&queue, "a", 0).await;
        assert_eq!(acquire(&queue, "a", 0).await.as_secs(), 1);
    }
}
