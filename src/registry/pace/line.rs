//! The line of those who wait for something that comes with time, such as the next request that a rate allows: served by
//! party in turn. Nothing runs in the background: one of those who wait watches the clock for all.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::registry::turns::{Party, Ticket, Turns};

/// What is waited for.
pub(super) trait Supply {
    /// Takes this much for a lane, all of it or nothing; else says when to ask again at the latest.
    fn take(&mut self, lane: usize, amount: NonZeroU32, now: Instant) -> Result<(), Instant>;
}

/// A supply, and who waits for it.
#[derive(Debug)]
pub(super) struct Line<S, const LANES: usize> {
    state: Mutex<State<S, LANES>>,
    /// Held by the one who watches the clock: that is what makes it one.
    watch: tokio::sync::Mutex<()>,
    /// The clock may have to be looked at earlier than was thought.
    changed: Notify,
}

#[derive(Debug)]
struct State<S, const LANES: usize> {
    supply: S,
    turns: Turns<Waiter, LANES>,
}

#[derive(Debug)]
struct Waiter {
    amount: NonZeroU32,
    served: oneshot::Sender<()>,
}

impl<S: Supply, const LANES: usize> Line<S, LANES> {
    pub(super) fn new(supply: S) -> Self {
        let state = Mutex::new(State { supply, turns: Turns::default() });
        Self { state, watch: tokio::sync::Mutex::default(), changed: Notify::new() }
    }

    /// Waits until so much may be taken, and takes it. Whether there was a wait. Cancel safe: what was taken for one who has
    /// just gone is lost, so it never becomes too much.
    pub(super) async fn pass(&self, party: Party, lane: usize, amount: NonZeroU32) -> bool {
        let waiting = {
            let mut state = self.lock();
            if state.turns.is_empty() && state.supply.take(lane, amount, Instant::now()).is_ok() {
                return false;
            }
            let (served, turn) = oneshot::channel();
            let ticket = state.turns.push(party, lane, Waiter { amount, served });
            // Those who wait for something else need not hold this one up.
            state.serve(Instant::now());
            Waiting { line: self, party, lane, ticket, turn }
        };
        self.changed.notify_one();
        waiting.turn().await;
        true
    }

    /// Looks at the supply.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        look(&mut self.lock().supply)
    }

    /// Changes the supply, for those who wait already too.
    pub(super) fn change(&self, change: impl FnOnce(&mut S)) {
        self.look(change);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<S, LANES>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Supply, const LANES: usize> State<S, LANES> {
    /// Lets all go who may go now. When somebody may go next, if anybody waits.
    fn serve(&mut self, now: Instant) -> Option<Instant> {
        let mut closed: [Option<Instant>; LANES] = [None; LANES];
        let Self { supply, turns } = self;
        let mut open = |lane: usize, waiter: &Waiter| {
            if closed[lane].is_some() {
                return false;
            }
            closed[lane] = supply.take(lane, waiter.amount, now).err();
            closed[lane].is_none()
        };
        while let Some((_, waiter)) = turns.next(&mut open) {
            // One who has just gone away does not need it any more.
            let _ = waiter.served.send(());
        }
        closed.into_iter().flatten().min()
    }
}

/// One who waits. Dropped, it leaves the line.
struct Waiting<'a, S: Supply, const LANES: usize> {
    line: &'a Line<S, LANES>,
    party: Party,
    lane: usize,
    ticket: Ticket,
    turn: oneshot::Receiver<()>,
}

impl<S: Supply, const LANES: usize> Waiting<'_, S, LANES> {
    async fn turn(mut self) {
        let line = self.line;
        // Nobody leaves the line unserved but by going away, so an error cannot be.
        tokio::select! {
            biased;
            _ = &mut self.turn => return,
            _watch = line.watch.lock() => loop {
                let next = line.lock().serve(Instant::now());
                let next = next.unwrap_or_else(Instant::now);
                tokio::select! {
                    biased;
                    _ = &mut self.turn => return,
                    () = line.changed.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                }
            },
        }
    }
}

impl<S: Supply, const LANES: usize> Drop for Waiting<'_, S, LANES> {
    fn drop(&mut self) {
        self.line.lock().turns.remove(self.party, self.lane, self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    /// One cell a second for each lane.
    struct Slow<const LANES: usize>([Instant; LANES]);

    impl<const LANES: usize> Supply for Slow<LANES> {
        fn take(&mut self, lane: usize, _: NonZeroU32, now: Instant) -> Result<(), Instant> {
            if self.0[lane] > now {
                return Err(self.0[lane]);
            }
            self.0[lane] = now + Duration::from_secs(1);
            Ok(())
        }
    }

    type Shared = Arc<Line<Slow<2>, 2>>;

    fn line() -> Shared {
        Arc::new(Line::new(Slow([Instant::now(); 2])))
    }

    /// Lets these pass, begun in this order; the order in which they went and the second of each.
    async fn order(line: &Shared, who: &[(&'static str, usize)]) -> Vec<(&'static str, u64)> {
        let began = Instant::now();
        let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
        for (party, lane) in who.iter().copied() {
            let (line, sender) = (line.clone(), sender.clone());
            tokio::spawn(async move {
                line.pass(Party::of(party), lane, NonZeroU32::MIN).await;
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
        assert!(!line.pass(Party::default(), 0, NonZeroU32::MIN).await);
        let who = [("a", 0), ("a", 0), ("a", 1), ("b", 1)];
        assert_eq!(order(&line, &who).await, [("a", 0), ("a", 1), ("b", 1), ("a", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_costs_nobody_a_turn_even_the_one_who_watches_the_clock() {
        let line = line();
        line.pass(Party::default(), 0, NonZeroU32::MIN).await;
        let watcher = tokio::spawn({
            let line = line.clone();
            async move { line.pass(Party::of("gone"), 0, NonZeroU32::MIN).await }
        });
        tokio::task::yield_now().await;
        let rest = tokio::spawn({
            let line = line.clone();
            async move { order(&line, &[("a", 0), ("b", 0)]).await }
        });
        tokio::task::yield_now().await;
        watcher.abort();
        assert_eq!(rest.await.unwrap(), [("a", 1), ("b", 2)]);
        assert!(line.lock().turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_supply_wakes_who_waits() {
        let line = line();
        line.change(|slow| slow.0[0] = Instant::now() + Duration::from_secs(3600));
        let waiting = tokio::spawn({
            let line = line.clone();
            async move { order(&line, &[("a", 0)]).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        line.change(|slow| slow.0[0] = Instant::now());
        assert_eq!(waiting.await.unwrap(), [("a", 5)]);
    }
}
