//! Wait queue over a limited resource: slots for requests in flight, a rate, the end of a pause, memory. The queue
//! serves the waiting tenants in turn. The resource knows how much of it is available.

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
    /// Part of the resource that a served caller gets. Dropping it may return it to the resource, so it is never
    /// dropped while the queue is locked.
    type Grant: std::fmt::Debug + Send + 'static;

    /// Number of priorities that are served before all others: those with a lower index.
    const PREFERRED: usize = 0;

    /// Takes `amount` for a waiter of this priority, all of it or nothing. If it is not available, returns when that
    /// may change.
    fn take(
        &mut self,
        tenant: Tenant,
        priority: usize,
        amount: NonZeroU32,
        now: Instant,
    ) -> Result<Self::Grant, Unavailable>;
}

/// Time at which the resource may be available again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The next change of the resource.
    UntilChanged,
    /// The next change of the resource, for this tenant only.
    ForTenant,
    /// This time, at the latest.
    Until(Instant),
}

/// Resource, and the callers that wait for it.
#[derive(Debug)]
pub(crate) struct WaitQueue<R: Resource, const PRIORITIES: usize> {
    own: Weak<Self>,
    state: Mutex<WaitQueueState<R, PRIORITIES>>,
}

#[derive(Debug)]
struct WaitQueueState<R: Resource, const PRIORITIES: usize> {
    resource: R,
    queue: FairQueue<Waiter<R::Grant>, PRIORITIES>,
    /// Time of the next alarm.
    alarm: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<G> {
    tenant: Tenant,
    amount: NonZeroU32,
    served: oneshot::Sender<G>,
}

/// Callers to notify once the lock is released, with their grants.
type Served<G> = Vec<(oneshot::Sender<G>, G)>;

impl<R: Resource, const PRIORITIES: usize> WaitQueue<R, PRIORITIES> {
    /// Creates the queue and its resource, which may store the queue itself for its grants.
    pub(crate) fn new(resource: impl FnOnce(&Weak<Self>) -> R) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            let state = WaitQueueState { resource: resource(own), queue: FairQueue::default(), alarm: None };
            Self { own: own.clone(), state: Mutex::new(state) }
        })
    }

    /// Waits until `amount` is available, and takes it. Also returns the time that this took if anybody had to wait for
    /// the clock. Returns `None` if the sender of the grant no longer exists. Cancel safe: a grant to a caller that has
    /// just been cancelled is dropped.
    pub(crate) async fn acquire(
        &self,
        tenant: Tenant,
        priority: usize,
        amount: NonZeroU32,
    ) -> (Option<R::Grant>, Duration) {
        let began = Instant::now();
        let (waiting, by_clock) = {
            let mut state = self.lock();
            // Waiting callers come first, but they may wait at another priority.
            if state.queue.is_empty()
                && let Ok(grant) = state.resource.take(tenant, priority, amount, began)
            {
                return (Some(grant), Duration::ZERO);
            }
            let (served, turn) = oneshot::channel();
            let ticket = state.queue.push(tenant, priority, Waiter { tenant, amount, served });
            let by_clock = self.serve(state);
            (Waiting { queue: self, tenant, priority, ticket, turn }, by_clock)
        };
        let grant = waiting.wait_for_grant().await;
        (grant, if by_clock { began.elapsed() } else { Duration::ZERO })
    }

    /// Returns true if nobody waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Reads the resource. Serves nobody.
    pub(crate) fn with_resource<T>(&self, read: impl FnOnce(&mut R) -> T) -> T {
        read(&mut self.lock().resource)
    }

    /// Changes the resource, and serves the callers that can be served now.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut R) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state.resource);
        self.serve(state);
        changed
    }

    /// Serves all callers that can be served now, and sets an alarm for the next one. Returns true if a caller waits
    /// for the clock.
    fn serve(&self, mut state: MutexGuard<'_, WaitQueueState<R, PRIORITIES>>) -> bool {
        if state.queue.is_empty() {
            return false;
        }
        let mut served = Vec::new();
        let next = state.serve(Instant::now(), &mut served);
        if let Some(next) = next
            && state.alarm.is_none_or(|alarm| next < alarm)
            // Without a runtime nobody waits, so no caller is forgotten.
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.alarm = Some(next);
            runtime.spawn(serve_at(self.own.clone(), next));
        }
        drop(state);
        for (waiter, grant) in served {
            // A caller that has just been cancelled no longer needs its grant.
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
    /// Takes the grants of all callers that can be served now. Returns the time at which the next caller can be served,
    /// if one waits for the clock.
    fn serve(&mut self, now: Instant, served: &mut Served<R::Grant>) -> Option<Instant> {
        let Self { resource, queue, .. } = self;
        let mut closed: [Option<Unavailable>; PRIORITIES] = [None; PRIORITIES];
        let mut grant = None;
        let mut open = |grant: &mut Option<R::Grant>, priority: usize, waiter: &Waiter<R::Grant>| {
            if closed[priority].is_none() {
                match resource.take(waiter.tenant, priority, waiter.amount, now) {
                    Ok(granted) => *grant = Some(granted),
                    Err(Unavailable::ForTenant) => {}
                    Err(until) => closed[priority] = Some(until),
                }
            }
            grant.is_some()
        };
        loop {
            let first = queue.next(|priority, waiter| priority < R::PREFERRED && open(&mut grant, priority, waiter));
            let next = first.or_else(|| queue.next(|priority, waiter| open(&mut grant, priority, waiter)));
            let (Some((_, waiter)), Some(granted)) = (next, grant.take()) else { break };
            served.push((waiter.served, granted));
        }
        let times = closed.into_iter().flatten().filter_map(|closed| match closed {
            Unavailable::Until(at) => Some(at),
            Unavailable::UntilChanged | Unavailable::ForTenant => None,
        });
        times.min()
    }
}

/// Waiting caller. Dropping it removes it from the queue, and serves those that can be served without it.
struct Waiting<'a, R: Resource, const PRIORITIES: usize> {
    queue: &'a WaitQueue<R, PRIORITIES>,
    tenant: Tenant,
    priority: usize,
    ticket: Ticket,
    turn: oneshot::Receiver<R::Grant>,
}

impl<R: Resource, const PRIORITIES: usize> Waiting<'_, R, PRIORITIES> {
    async fn wait_for_grant(mut self) -> Option<R::Grant> {
        (&mut self.turn).await.ok()
    }
}

impl<R: Resource, const PRIORITIES: usize> Drop for Waiting<'_, R, PRIORITIES> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let cancelled = state.queue.remove(self.tenant, self.priority, self.ticket);
        if cancelled.is_some() {
            // Others may have waited behind it only because it wants more than there is.
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

    /// Starts these callers in this order. Returns the order in which they were served, with the second of each.
    async fn order(queue: &Shared, who: &[(&'static str, usize)]) -> Vec<(&'static str, u64)> {
        let began = Instant::now();
        let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
        for (tenant, priority) in who.iter().copied() {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                acquire(&queue, tenant, priority).await;
                sender.send((tenant, began.elapsed().as_secs())).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(next) = went.recv().await {
            order.push(next);
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn busy_tenant_does_not_delay_others() {
        let who = [("big", 0), ("big", 0), ("big", 0), ("big", 0), ("small", 0), ("small", 0)];
        let expected = [("big", 0), ("big", 1), ("small", 2), ("big", 3), ("small", 4), ("big", 5)];
        assert_eq!(order(&queue(), &who).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn busy_priority_does_not_delay_another() {
        let queue = queue();
        assert_eq!(acquire(&queue, "a", 0).await, Duration::ZERO);
        let who = [("a", 0), ("a", 0), ("a", 1), ("b", 1)];
        assert_eq!(order(&queue, &who).await, [("a", 0), ("a", 1), ("b", 1), ("a", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waiter_costs_nobody_a_turn() {
        let queue = queue();
        acquire(&queue, "a", 0).await;
        let gone = tokio::spawn({
            let queue = queue.clone();
            async move { acquire(&queue, "gone", 0).await }
        });
        tokio::task::yield_now().await;
        let rest = tokio::spawn({
            let queue = queue.clone();
            async move { order(&queue, &[("a", 0), ("b", 0)]).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert_eq!(rest.await.unwrap(), [("a", 1), ("b", 2)]);
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
