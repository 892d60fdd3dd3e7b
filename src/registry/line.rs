//! The line of those who wait until there is something to be had: a place among the requests in flight, what a rate allows,
//! the end of a pause. Served by party in turn. What there is to be had is known to the supply.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::turns::{Party, Ticket, Turns};

/// What is waited for.
pub(super) trait Supply: Send + 'static {
    /// What who is served gets. Dropped, it may give something back, so it is never dropped under the lock.
    type Grant: std::fmt::Debug + Send + 'static;

    /// Lanes below this are served before all others.
    const FIRST: usize = 0;

    /// Takes this much for a lane, all of it or nothing; else says when that may change.
    fn take(&mut self, party: Party, lane: usize, amount: NonZeroU32, now: Instant) -> Result<Self::Grant, Closed>;
}

/// When something may be to be had again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// When the supply is changed.
    UntilChanged,
    /// The same, and only to this party.
    ToParty,
    /// By then at the latest.
    Until(Instant),
}

/// A supply, and who waits for it.
#[derive(Debug)]
pub(super) struct Line<S: Supply, const LANES: usize> {
    own: Weak<Self>,
    state: Mutex<State<S, LANES>>,
}

#[derive(Debug)]
struct State<S: Supply, const LANES: usize> {
    supply: S,
    turns: Turns<Waiter<S::Grant>, LANES>,
    /// When the clock will be looked at.
    alarm: Option<Instant>,
}

#[derive(Debug)]
struct Waiter<G> {
    party: Party,
    amount: NonZeroU32,
    served: oneshot::Sender<G>,
}

/// Who is to be told, once the lock is let go.
type Served<G> = Vec<(oneshot::Sender<G>, G)>;

impl<S: Supply, const LANES: usize> Line<S, LANES> {
    /// Makes the supply, which may keep the line itself for what it grants.
    pub(super) fn new(supply: impl FnOnce(&Weak<Self>) -> S) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            let state = State { supply: supply(own), turns: Turns::default(), alarm: None };
            Self { own: own.clone(), state: Mutex::new(state) }
        })
    }

    /// Waits until so much may be taken, and takes it. Also how long that took where the clock let somebody wait. `None` where
    /// whoever should serve has gone. Cancel safe: what was granted to one who has just gone is dropped.
    pub(super) async fn pass(&self, party: Party, lane: usize, amount: NonZeroU32) -> (Option<S::Grant>, Duration) {
        let began = Instant::now();
        let (waiting, by_clock) = {
            let mut state = self.lock();
            // Who waits comes first, but perhaps waits for something else.
            if state.turns.is_empty()
                && let Ok(grant) = state.supply.take(party, lane, amount, began)
            {
                return (Some(grant), Duration::ZERO);
            }
            let (served, turn) = oneshot::channel();
            let ticket = state.turns.push(party, lane, Waiter { party, amount, served });
            let by_clock = self.serve(state);
            (Waiting { line: self, party, lane, ticket, turn }, by_clock)
        };
        let grant = waiting.turn().await;
        (grant, if by_clock { began.elapsed() } else { Duration::ZERO })
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().turns.is_empty()
    }

    /// Looks at the supply.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut self.lock().supply)
    }

    /// Changes the supply, and serves whom that serves.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state.supply);
        self.serve(state);
        changed
    }

    /// Lets all go who may go now, and sees to it that the next one is thought of. Whether one waits for the clock.
    fn serve(&self, mut state: MutexGuard<'_, State<S, LANES>>) -> bool {
        if state.turns.is_empty() {
            return false;
        }
        let mut served = Vec::new();
        let next = state.serve(Instant::now(), &mut served);
        if let Some(next) = next
            && state.alarm.is_none_or(|alarm| next < alarm)
            // Without a runtime nobody waits, so nobody is forgotten.
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.alarm = Some(next);
            runtime.spawn(ring(self.own.clone(), next));
        }
        drop(state);
        for (waiter, grant) in served {
            // One who has just gone away does not need it any more.
            drop(waiter.send(grant));
        }
        next.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State<S, LANES>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the clock once, at this time.
async fn ring<S: Supply, const LANES: usize>(line: Weak<Line<S, LANES>>, at: Instant) {
    tokio::time::sleep_until(at).await;
    let Some(line) = line.upgrade() else { return };
    let mut state = line.lock();
    state.alarm.take_if(|alarm| *alarm == at);
    line.serve(state);
}

impl<S: Supply, const LANES: usize> State<S, LANES> {
    /// Takes for all who may go now. When somebody may go next by the clock, if anybody waits for that.
    fn serve(&mut self, now: Instant, served: &mut Served<S::Grant>) -> Option<Instant> {
        let Self { supply, turns, .. } = self;
        let mut closed: [Option<Closed>; LANES] = [None; LANES];
        let mut grant = None;
        let mut open = |grant: &mut Option<S::Grant>, lane: usize, waiter: &Waiter<S::Grant>| {
            if closed[lane].is_none() {
                match supply.take(waiter.party, lane, waiter.amount, now) {
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

/// One who waits. Dropped, it leaves the line.
struct Waiting<'a, S: Supply, const LANES: usize> {
    line: &'a Line<S, LANES>,
    party: Party,
    lane: usize,
    ticket: Ticket,
    turn: oneshot::Receiver<S::Grant>,
}

impl<S: Supply, const LANES: usize> Waiting<'_, S, LANES> {
    async fn turn(mut self) -> Option<S::Grant> {
        (&mut self.turn).await.ok()
    }
}

impl<S: Supply, const LANES: usize> Drop for Waiting<'_, S, LANES> {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        let left = state.turns.remove(self.party, self.lane, self.ticket);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One cell a second for each lane.
    struct Slow([Instant; 2]);

    impl Supply for Slow {
        type Grant = ();

        fn take(&mut self, _: Party, lane: usize, _: NonZeroU32, now: Instant) -> Result<(), Closed> {
            if self.0[lane] > now {
                return Err(Closed::Until(self.0[lane]));
            }
            self.0[lane] = now + Duration::from_secs(1);
            Ok(())
        }
    }

    type Shared = Arc<Line<Slow, 2>>;

    fn line() -> Shared {
        Line::new(|_| Slow([Instant::now(); 2]))
    }

    async fn pass(line: &Shared, party: &str, lane: usize) -> Duration {
        let (granted, waited) = line.pass(Party::of(party), lane, NonZeroU32::MIN).await;
        assert_eq!(granted, Some(()));
        waited
    }

    /// Lets these pass, begun in this order; the order in which they went and the second of each.
    async fn order(line: &Shared, who: &[(&'static str, usize)]) -> Vec<(&'static str, u64)> {
        let began = Instant::now();
        let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
        for (party, lane) in who.iter().copied() {
            let (line, sender) = (line.clone(), sender.clone());
            tokio::spawn(async move {
                pass(&line, party, lane).await;
                sender.send((party, began.elapsed().as_secs())).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(one) = went.recv().await {
            order.push(one);
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_much_to_do_does_not_hold_up_who_has_little() {
        let who = [("big", 0), ("big", 0), ("big", 0), ("big", 0), ("small", 0), ("small", 0)];
        let expected = [("big", 0), ("big", 1), ("small", 2), ("big", 3), ("small", 4), ("big", 5)];
        assert_eq!(order(&line(), &who).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn another_lane_is_not_held_up() {
        let line = line();
        assert_eq!(pass(&line, "a", 0).await, Duration::ZERO);
        let who = [("a", 0), ("a", 0), ("a", 1), ("b", 1)];
        assert_eq!(order(&line, &who).await, [("a", 0), ("a", 1), ("b", 1), ("a", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_costs_nobody_a_turn() {
        let line = line();
        pass(&line, "a", 0).await;
        let gone = tokio::spawn({
            let line = line.clone();
            async move { pass(&line, "gone", 0).await }
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
    async fn a_change_of_the_supply_serves_who_waits() {
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
    async fn the_time_that_the_clock_let_wait_is_told() {
        let line = line();
        pass(&line, "a", 0).await;
        assert_eq!(pass(&line, "a", 0).await.as_secs(), 1);
    }
}
