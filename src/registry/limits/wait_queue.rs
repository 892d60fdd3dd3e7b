//! Wait queue over a limited resource: slots for requests in flight, a rate, the end of a pause. The queue serves the
//! waiting parties in turn. The supply knows how much of the resource is available.

use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fair_queue::{FairQueue, Tenant, Ticket};

/// Resource that callers wait for.
pub(crate) trait Resource: Send + 'static {
    /// Part of the resource that a served caller gets. Dropping it may return it to the supply, so it is never dropped
    /// while the queue is locked.
    type Grant: std::fmt::Debug + Send + 'static;

    /// Number of lanes that are served before all others: those with a lower index.
    const FIRST: usize = 0;

    /// Takes `amount` for a lane, all of it or nothing. If it is not available, returns when that may change.
    fn take(&mut self, tenant: Tenant, lane: usize, amount: NonZeroU32, now: Instant) -> Result<Self::Grant, Closed>;
}

/// Time at which the resource may be available again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The next change of the supply.
    UntilChanged,
    /// The next change of the supply, for this party only.
    ToParty,
    /// This time, at the latest.
    Until(Instant),
}

/// Supply, and the callers that wait for it.
#[derive(Debug)]
pub(crate) struct WaitQueue<S: Resource, const LANES: usize> {
    own: Weak<Self>,
    state: Mutex<State<S, LANES>>,
}

#[derive(Debug)]
struct State<S: Resource, const LANES: usize> {
    supply: S,
    turns: FairQueue<Waiter<S::Grant>, LANES>,
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

impl<S: Resource, const LANES: usize> WaitQueue<S, LANES> {
    /// Creates the queue and its supply, which may store the queue itself for its grants.
    pub(crate) fn new(supply: impl FnOnce(&Weak<Self>) -> S) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            let state = State { supply: supply(own), turns: FairQueue::default(), alarm: None };
            Self { own: own.clone(), state: Mutex::new(state) }
        })
    }

    /// Waits until `amount` is available, and takes it. Also returns the time that this took if anybody had to wait for
    /// the clock. Returns `None` if the sender of the grant no longer exists. Cancel safe: a grant to a caller that has
    /// just been cancelled is dropped.
    pub(crate) async fn acquire(
        &self,
        tenant: Tenant,
        lane: usize,
        amount: NonZeroU32,
    ) -> (Option<S::Grant>, Duration) {
        let began = Instant::now();
        let (waiting, by_clock) = {
            let mut state = self.lock();
            // Waiting callers come first, but they may wait for another lane.
            if state.turns.is_empty()
                && let Ok(grant) = state.supply.take(tenant, lane, amount, began)
            {
                return (Some(grant), Duration::ZERO);
            }
            let (served, turn) = oneshot::channel();
            let ticket = state.turns.push(tenant, lane, Waiter { tenant, amount, served });
            let by_clock = self.serve(state);
            (Waiting { line: self, tenant, lane, ticket, turn }, by_clock)
        };
        let grant = waiting.wait_for_grant().await;
        (grant, if by_clock { began.elapsed() } else { Duration::ZERO })
    }

    /// Returns true if nobody waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().turns.is_empty()
    }

    /// Reads the supply. Serves nobody.
    pub(crate) fn with_supply<T>(&self, read: impl FnOnce(&mut S) -> T) -> T {
        read(&mut self.lock().supply)
    }

    /// Changes the supply, and serves the callers that can be served now.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state.supply);
        self.serve(state);
        changed
    }

    /// Serves all callers that can be served now, and sets an alarm for the next one. Returns true if a caller waits
    /// for the clock.
    fn serve(&self, mut state: MutexGuard<'_, State<S, LANES>>) -> bool {
        if state.turns.is_empty() {
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

    fn lock(&self) -> MutexGuard<'_, State<S, LANES>> {
        self.state.lock()
    }
}

/// Serves the queue once, at this time.
async fn serve_at<S: Resource, const LANES: usize>(line: Weak<WaitQueue<S, LANES>>, at: Instant) {
    tokio::time::sleep_until(at).await;
    let Some(line) = line.upgrade() else { return };
    let mut state = line.lock();
    state.alarm.take_if(|alarm| *alarm == at);
    line.serve(state);
}

impl<S: Resource, const LANES: usize> State<S, LANES> {
    /// Takes the grants of all callers that can be served now. Returns the time at which the next caller can be served,
    /// if one waits for the clock.
    fn serve(&mut self, now: Instant, served: &mut Served<S::Grant>) -> Option<Instant> {
        let Self { supply, turns, .. } = self;
        let mut closed: [Option<Closed>; LANES] = [None; LANES];
        let mut grant = None;
        let mut open = |grant: &mut Option<S::Grant>, lane: usize, waiter: &Waiter<S::Grant>| {
            if closed[lane].is_none() {
                match supply.take(waiter.tenant, lane, waiter.amount, now) {
                    Ok(granted) => *grant = Some(granted),
                    Err(Closed::ToParty) => {}
                    Err(until) => closed[lane] = Some(until),
                }
            }
            grant.is_some()
        };
        loop {
            let first = turns.next(|lane, waiter| lane < S::FIRST && open(&mut grant, lane, waiter));
            let next = first.or_else(|| turns.next(|lane, waiter| open(&mut grant, lane, waiter)));
            let (Some((_, waiter)), Some(granted)) = (next, grant.take()) else { break };
            served.push((waiter.served, granted));
        }
        let times = closed.into_iter().flatten().filter_map(|closed| match closed {
            Closed::Until(at) => Some(at),
            Closed::UntilChanged | Closed::ToParty => None,
        });
        times.min()
    }
}

/// Waiting caller. Dropping it removes it from the queue.
struct Waiting<'a, S: Resource, const LANES: usize> {
    line: &'a WaitQueue<S, LANES>,
    tenant: Tenant,
    lane: usize,
    ticket: Ticket,
    turn: oneshot::Receiver<S::Grant>,
}

impl<S: Resource, const LANES: usize> Waiting<'_, S, LANES> {
    async fn wait_for_grant(mut self) -> Option<S::Grant> {
        (&mut self.turn).await.ok()
    }
}

impl<S: Resource, const LANES: usize> Drop for Waiting<'_, S, LANES> {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        let left = state.turns.remove(self.tenant, self.lane, self.ticket);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Supply of one cell per second for each lane.
    struct Slow([Instant; 2]);

    impl Resource for Slow {
        type Grant = ();

        fn take(&mut self, _: Tenant, lane: usize, _: NonZeroU32, now: Instant) -> Result<(), Closed> {
            if self.0[lane] > now {
                return Err(Closed::Until(self.0[lane]));
            }
            self.0[lane] = now + Duration::from_secs(1);
            Ok(())
        }
    }

    type Shared = Arc<WaitQueue<Slow, 2>>;

    fn line() -> Shared {
        WaitQueue::new(|_| Slow([Instant::now(); 2]))
    }

    async fn acquire(line: &Shared, tenant: &str, lane: usize) -> Duration {
        let (granted, waited) = line.acquire(Tenant::from_name(tenant), lane, NonZeroU32::MIN).await;
        assert_eq!(granted, Some(()));
        waited
    }

    /// Starts these callers in this order. Returns the order in which they were served, with the second of each.
    async fn order(line: &Shared, who: &[(&'static str, usize)]) -> Vec<(&'static str, u64)> {
        let began = Instant::now();
        let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
        for (tenant, lane) in who.iter().copied() {
            let (line, sender) = (line.clone(), sender.clone());
            tokio::spawn(async move {
                acquire(&line, tenant, lane).await;
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
    async fn busy_party_does_not_delay_others() {
        let who = [("big", 0), ("big", 0), ("big", 0), ("big", 0), ("small", 0), ("small", 0)];
        let expected = [("big", 0), ("big", 1), ("small", 2), ("big", 3), ("small", 4), ("big", 5)];
        assert_eq!(order(&line(), &who).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn busy_lane_does_not_delay_another() {
        let line = line();
        assert_eq!(acquire(&line, "a", 0).await, Duration::ZERO);
        let who = [("a", 0), ("a", 0), ("a", 1), ("b", 1)];
        assert_eq!(order(&line, &who).await, [("a", 0), ("a", 1), ("b", 1), ("a", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waiter_costs_nobody_a_turn() {
        let line = line();
        acquire(&line, "a", 0).await;
        let gone = tokio::spawn({
            let line = line.clone();
            async move { acquire(&line, "gone", 0).await }
        });
        tokio::task::yield_now().await;
        let rest = tokio::spawn({
            let line = line.clone();
            async move { order(&line, &[("a", 0), ("b", 0)]).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert_eq!(rest.await.unwrap(), [("a", 1), ("b", 2)]);
        let state = line.lock();
        assert!(state.turns.is_empty() && state.alarm.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn changed_supply_serves_waiters() {
        let line = line();
        line.change(|slow| slow.0[0] = Instant::now() + Duration::from_secs(3600));
        let waiting = tokio::spawn({
            let line = line.clone();
            async move { order(&line, &[("a", 0), ("a", 0)]).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        line.change(|slow| slow.0[0] = Instant::now());
        assert_eq!(waiting.await.unwrap(), [("a", 5), ("a", 6)]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_waited_for_the_clock_is_returned() {
        let line = line();
        acquire(&line, "a", 0).await;
        assert_eq!(acquire(&line, "a", 0).await.as_secs(), 1);
    }
}
