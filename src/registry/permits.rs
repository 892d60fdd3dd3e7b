//! How many requests of one registry are in flight, and who goes next.
//!
//! A copy reads and writes at once, often within one registry, so permits could wait for each other in a ring.
//! They cannot here: a write enters when its first bytes are here, so who holds a permit to write waits for no permit
//! to read; a read that goes on in its midst does not queue; a read lets go as soon as its last byte is here; and blob
//! reads never take the last permit, so a write can always begin, also when the limit has shrunk below the reads in flight.
//!
//! Parties take turns at the doors, and within a party who came first goes first.
//!
//! The limit follows the registry: halved where it asks for patience, raised by one where it has answered as many requests
//! as it may have in flight, never above what is configured. Time plays no role.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::turns::{Party, Ticket, Turns};

/// Requests in flight where nothing is configured.
pub(crate) const DEFAULT_CONCURRENT: usize = 32;

/// Which door a request goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everything whose answer does not wait for another request.
    Common,
    /// A blob read from its start: its body waits for whoever writes it.
    BlobRead,
    /// A blob read that goes on in the midst of a write. It does not wait.
    BlobResumed,
    /// The bytes or the end of an upload that has begun. It goes before all that wait at another door: what is begun holds
    /// memory and a read at the source.
    Continued,
}

/// What a permit counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Read,
    Other,
}

impl Door {
    /// How many doors have a queue.
    const QUEUES: usize = 3;

    /// Where one waits at this door, if one waits.
    fn lane(self) -> Option<usize> {
        match self {
            Self::Continued => Some(0),
            Self::Common => Some(1),
            Self::BlobRead => Some(2),
            Self::BlobResumed => None,
        }
    }

    /// What is waited for in each lane.
    const LANES: [(Self, Class); Self::QUEUES] =
        [(Self::Continued, Class::Other), (Self::Common, Class::Other), (Self::BlobRead, Class::Read)];

    fn class(self) -> Class {
        match self {
            Self::BlobRead | Self::BlobResumed => Class::Read,
            Self::Common | Self::Continued => Class::Other,
        }
    }
}

/// Held until the body is read. The default is held by nobody.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    number: u64,
    held: Option<(Arc<Shared>, Class)>,
}

impl Permit {
    /// Its place in the order in which requests entered.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((shared, class)) = self.held.take() {
            shared.change(|state| *state.count(class) -= 1);
        }
    }
}

/// The gate of one registry.
#[derive(Debug)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The most that `limit` may be.
    configured: usize,
    /// How many requests may be in flight now.
    limit: usize,
    /// Who entered before this is of the burst that the limit was halved for: its answers say nothing new.
    halved_at: u64,
    /// Answers since the limit was last changed.
    successes: usize,
    reads: usize,
    others: usize,
    /// How many requests have entered so far.
    entered: u64,
    waiting: Turns<Waiter, { Door::QUEUES }>,
}

type Waiter = oneshot::Sender<Permit>;

impl Gate {
    pub(crate) fn new(concurrent: usize) -> Self {
        let configured = concurrent.max(1);
        let state = State {
            configured,
            limit: configured,
            halved_at: 0,
            successes: 0,
            reads: 0,
            others: 0,
            entered: 0,
            waiting: Turns::default(),
        };
        Self(Arc::new(Shared(Mutex::new(state))))
    }

    /// Waits for a permit: by party in turn, and within a party first come first served. Cancel safe: a permit that nobody
    /// takes any more goes to the next.
    pub(crate) async fn enter(&self, party: Party, door: Door) -> Permit {
        let waiting = {
            let mut state = self.0.lock();
            if state.admits(door.class()) {
                return self.0.grant(&mut state, door.class());
            }
            let Some(lane) = door.lane() else { return state.beside() };
            let (waiter, permit) = oneshot::channel();
            let ticket = state.waiting.push(party, lane, waiter);
            Waiting { shared: &self.0, party, lane, ticket, permit }
        };
        waiting.permit().await
    }

    /// Lets so many in at most from now on. Those who are in stay.
    pub(crate) fn set(&self, concurrent: usize) {
        self.0.change(|state| state.configure(concurrent.max(1)));
    }

    /// Takes in that the request of this number was answered.
    pub(crate) fn answered(&self, number: u64) {
        self.0.change(|state| state.answered(number));
    }

    /// Takes in that the request of this number was asked for patience. Returns the new limit where that lowers it.
    pub(crate) fn throttled(&self, number: u64) -> Option<usize> {
        // Nobody enters by that.
        self.0.lock().throttled(number)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(self: &Arc<Self>, state: &mut State, class: Class) -> Permit {
        *state.count(class) += 1;
        Permit { held: Some((Arc::clone(self), class)), ..state.beside() }
    }

    /// Changes something, and lets in whom the change lets in.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut granted = Vec::new();
        let changed = {
            let mut state = self.lock();
            let changed = change(&mut state);
            while let Some((waiter, class)) = state.next() {
                granted.push((waiter, self.grant(&mut state, class)));
            }
            changed
        };
        for (waiter, permit) in granted {
            // Who has just gone away gives it back: dropped, it goes to the next.
            drop(waiter.send(permit));
        }
        changed
    }
}

impl State {
    fn count(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Read => &mut self.reads,
            Class::Other => &mut self.others,
        }
    }

    /// Whether one more may enter. Nobody who waits at the same door may, or it would have.
    fn admits(&self, class: Class) -> bool {
        match class {
            Class::Other => self.others < self.limit.saturating_sub(self.reads).max(1),
            // With a single permit, a blob read passes beside it: else nothing could be copied within the registry.
            Class::Read if self.limit == 1 => self.reads == 0,
            Class::Read => self.reads < self.limit - 1 && self.reads + self.others < self.limit,
        }
    }

    fn answered(&mut self, number: u64) {
        if number < self.halved_at || self.limit == self.configured {
            return;
        }
        self.successes += 1;
        if self.successes >= self.limit {
            self.limit += 1;
            self.successes = 0;
        }
    }

    fn throttled(&mut self, number: u64) -> Option<usize> {
        if number < self.halved_at {
            return None;
        }
        self.halved_at = self.entered;
        self.successes = 0;
        let before = self.limit;
        self.limit = (before / 2).max(1);
        (self.limit < before).then_some(self.limit)
    }

    /// A permit that counts for nothing.
    fn beside(&mut self) -> Permit {
        let number = self.entered;
        self.entered += 1;
        Permit { number, held: None }
    }

    /// Another limit. One that was lowered for the registry's sake stays as low, and goes up to the new one in time.
    fn configure(&mut self, configured: usize) {
        let untouched = self.limit == self.configured;
        self.limit = if untouched { configured } else { self.limit.min(configured) };
        self.configured = configured;
    }

    /// Takes the next who may enter out of its queue. What is begun goes before all else.
    fn next(&mut self) -> Option<(Waiter, Class)> {
        let open = Door::LANES.map(|(_, class)| self.admits(class));
        let begun = |lane: usize| Door::LANES[lane].0 == Door::Continued;
        let next = self.waiting.next(|lane, _| open[lane] && begun(lane));
        let (lane, waiter) = next.or_else(|| self.waiting.next(|lane, _| open[lane]))?;
        Some((waiter, Door::LANES[lane].1))
    }
}

/// One who waits. Dropped, it leaves its queue.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    party: Party,
    lane: usize,
    ticket: Ticket,
    permit: oneshot::Receiver<Permit>,
}

impl Waiting<'_> {
    async fn permit(mut self) -> Permit {
        // A waiter leaves its queue with a permit only; were it lost, passing beside is better than standing still.
        (&mut self.permit).await.unwrap_or_default()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(self.party, self.lane, self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Permit> + 'a>>;

    /// Stands at a door, and must find it closed.
    fn queue(gate: &Gate, door: Door) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(gate.enter(Party::default(), door));
        assert!(entering.as_mut().now_or_never().is_none(), "{door:?} is open");
        entering
    }

    fn enter(gate: &Gate, door: Door) -> Option<Permit> {
        gate.enter(Party::default(), door).now_or_never()
    }

    #[test]
    fn blob_reads_leave_a_permit_for_a_write() {
        let gate = Gate::new(3);
        let read = || enter(&gate, Door::BlobRead);
        let (first, second) = (read().unwrap(), read().unwrap());
        assert!(read().is_none());
        let write = enter(&gate, Door::Common).unwrap();
        assert!(enter(&gate, Door::Common).is_none());
        assert!(enter(&gate, Door::BlobResumed).is_some());
        drop((first, write));
        assert!(read().is_some());
        drop(second);
    }

    #[test]
    fn a_read_that_goes_on_leaves_the_last_permit_too() {
        let gate = Gate::new(2);
        let _read = enter(&gate, Door::BlobRead).unwrap();
        let _resumed = enter(&gate, Door::BlobResumed).unwrap();
        assert!(enter(&gate, Door::Continued).is_some());
    }

    #[test]
    fn a_registry_with_one_permit_can_be_copied_within() {
        let gate = Gate::new(1);
        let _read = enter(&gate, Door::BlobRead).unwrap();
        let _write = enter(&gate, Door::Common).unwrap();
        assert!(enter(&gate, Door::Common).is_none());
        assert!(enter(&gate, Door::BlobRead).is_none());
    }

    #[test]
    fn who_waits_enters_in_the_order_of_coming() {
        let gate = Gate::new(2);
        let held = [(); 2].map(|()| enter(&gate, Door::Common).unwrap());
        let doors = [Door::Common, Door::BlobRead, Door::Common, Door::BlobRead, Door::Common];
        let mut waiting: Vec<_> = doors.into_iter().map(|door| Some(queue(&gate, door))).collect();
        let [keep, first] = held;
        drop(first);
        let mut order = Vec::new();
        while order.len() < doors.len() {
            let open = waiting.iter_mut().enumerate().filter_map(|(at, one)| Some((at, one.as_mut()?)));
            let entered: Vec<(usize, Permit)> =
                open.filter_map(|(at, one)| Some((at, one.as_mut().now_or_never()?))).collect();
            assert_eq!(entered.len(), 1, "one permit lets in one");
            waiting[entered[0].0] = None;
            order.push(entered[0].0);
        }
        assert_eq!(order, [0, 1, 2, 3, 4]);
        drop(keep);
    }

    #[test]
    fn parties_enter_in_turn_also_at_different_doors() {
        let gate = Gate::new(2);
        let (keep, first) = (enter(&gate, Door::Common).unwrap(), enter(&gate, Door::Common).unwrap());
        let (big, small) = (Party::of("big"), Party::of("small"));
        let doors = [
            (big, Door::BlobRead),
            (big, Door::Common),
            (big, Door::BlobRead),
            (small, Door::Common),
            (small, Door::Common),
        ];
        let mut waiting: Vec<_> =
            doors.into_iter().map(|(party, door)| Some(Box::pin(gate.enter(party, door)))).collect();
        for entering in waiting.iter_mut().flatten() {
            assert!(entering.as_mut().now_or_never().is_none());
        }
        drop(first);
        let mut order = Vec::new();
        while order.len() < doors.len() {
            let at = waiting
                .iter_mut()
                .position(|one| one.as_mut().is_some_and(|entering| entering.as_mut().now_or_never().is_some()));
            let at = at.expect("one goes in when one comes out");
            waiting[at] = None;
            order.push(at);
        }
        assert_eq!(order, [0, 3, 1, 4, 2]);
        drop(keep);
    }

    #[test]
    fn another_limit_holds_at_once() {
        let gate = Gate::new(2);
        let held = [(); 2].map(|()| enter(&gate, Door::Common).unwrap());
        let mut waiting = [queue(&gate, Door::Common), queue(&gate, Door::Common)];
        gate.set(3);
        let third = waiting[0].as_mut().now_or_never().unwrap();
        assert!(waiting[1].as_mut().now_or_never().is_none());
        gate.set(1);
        drop(held);
        assert!(waiting[1].as_mut().now_or_never().is_none());
        drop(third);
        assert!(waiting[1].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_limit_that_the_registry_lowered_is_not_raised_by_another_configuration() {
        let gate = Gate::new(8);
        gate.throttled(enter(&gate, Door::Common).unwrap().number());
        gate.set(20);
        assert_eq!(limit(&gate), 4);
        gate.set(2);
        assert_eq!(limit(&gate), 2);
    }

    #[test]
    fn what_is_begun_goes_before_all_else() {
        let gate = Gate::new(2);
        let (first, _second) = (enter(&gate, Door::Common).unwrap(), enter(&gate, Door::Common).unwrap());
        let mut read = queue(&gate, Door::BlobRead);
        let mut common = queue(&gate, Door::Common);
        let mut continued = [queue(&gate, Door::Continued), queue(&gate, Door::Continued)];
        drop(first);
        assert!(read.as_mut().now_or_never().is_none() && common.as_mut().now_or_never().is_none());
        assert!(continued[1].as_mut().now_or_never().is_none());
        drop(continued[0].as_mut().now_or_never().unwrap());
        drop(continued[1].as_mut().now_or_never().unwrap());
        drop(read.now_or_never().unwrap());
        assert!(common.now_or_never().is_some());
    }

    #[test]
    fn a_blob_read_that_waits_for_another_holds_nobody_up() {
        let gate = Gate::new(3);
        let reads = [(); 2].map(|()| enter(&gate, Door::BlobRead).unwrap());
        let mut third = queue(&gate, Door::BlobRead);
        let write = enter(&gate, Door::Common).unwrap();
        let mut next = queue(&gate, Door::Common);
        drop(write);
        assert!(third.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_some());
        drop(reads);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn who_goes_away_before_or_after_its_turn_passes_it_on() {
        let gate = Gate::new(1);
        let held = enter(&gate, Door::Common).unwrap();
        let [gone, granted, mut last] = [(); 3].map(|()| queue(&gate, Door::Common));
        drop(gone);
        drop(held);
        // It is the second one's now, which never looks.
        assert!(last.as_mut().now_or_never().is_none());
        drop(granted);
        let permit = last.now_or_never().unwrap();
        assert!(enter(&gate, Door::Common).is_none());
        drop(permit);
        assert!(enter(&gate, Door::Common).is_some());
        let state = gate.0.lock();
        assert_eq!((state.others, state.reads, state.waiting.is_empty()), (0, 0, true));
    }

    fn limit(gate: &Gate) -> usize {
        gate.0.lock().limit
    }

    #[test]
    fn the_limit_is_halved_once_a_burst_and_never_below_one() {
        let gate = Gate::new(10);
        let burst: Vec<Permit> = (0..10).map(|_| enter(&gate, Door::Common).unwrap()).collect();
        assert_eq!(gate.throttled(burst[3].number()), Some(5));
        for permit in &burst {
            assert_eq!(gate.throttled(permit.number()), None);
        }
        drop(burst);
        for limits in [(5, Some(2)), (2, Some(1)), (1, None), (1, None)] {
            let permit = enter(&gate, Door::Common).unwrap();
            assert_eq!((limit(&gate), gate.throttled(permit.number())), limits);
        }
        assert_eq!(limit(&gate), 1);
    }

    #[test]
    fn as_many_answers_as_the_limit_raise_it_by_one_up_to_what_is_configured() {
        let gate = Gate::new(8);
        let late = enter(&gate, Door::Common).unwrap();
        gate.throttled(enter(&gate, Door::Common).unwrap().number());
        let limits: Vec<usize> = (0..30)
            .map(|_| {
                // One of the burst counts for nothing.
                gate.answered(late.number());
                gate.answered(enter(&gate, Door::Common).unwrap().number());
                limit(&gate)
            })
            .collect();
        let expected = [[4; 3].as_slice(), &[5; 5], &[6; 6], &[7; 7], &[8; 9]].concat();
        assert_eq!(limits, expected);
    }

    #[test]
    fn answers_before_a_burst_do_not_count_after_it() {
        let gate = Gate::new(8);
        let through = |success: bool| {
            let number = enter(&gate, Door::Common).unwrap().number();
            if success {
                gate.answered(number);
            } else {
                gate.throttled(number);
            }
            limit(&gate)
        };
        let answers = [false, true, true, true, false, true, false, true, true];
        assert_eq!(answers.map(through), [4, 4, 4, 4, 2, 2, 1, 2, 2]);
    }

    #[test]
    fn a_lower_limit_lets_nobody_in_and_a_raised_one_does() {
        let gate = Gate::new(4);
        let mut held: Vec<Permit> = (0..4).map(|_| enter(&gate, Door::Common).unwrap()).collect();
        assert_eq!(gate.throttled(held[0].number()), Some(2));
        let mut waiting = queue(&gate, Door::Common);
        held.truncate(2);
        assert!(waiting.as_mut().now_or_never().is_none());
        held.truncate(1);
        let first = waiting.now_or_never().unwrap();
        let mut waiting = queue(&gate, Door::Common);
        gate.answered(first.number());
        gate.answered(first.number());
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_write_enters_beside_more_reads_than_the_limit_has_become() {
        let gate = Gate::new(4);
        let reads = [(); 3].map(|()| enter(&gate, Door::BlobRead).unwrap());
        gate.throttled(reads[0].number());
        assert_eq!(limit(&gate), 2);
        let write = enter(&gate, Door::Continued).unwrap();
        assert!(enter(&gate, Door::Common).is_none());
        drop(write);
        assert!(enter(&gate, Door::Common).is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_forgotten_where_many_come_and_go() {
        let gate = Arc::new(Gate::new(3));
        let doors = [Door::Common, Door::BlobRead, Door::Continued, Door::BlobResumed];
        let tasks = (0..400_usize).map(|n| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for round in 0..50 {
                    let party = Party::of(["a", "b", "c"][n % 3]);
                    let entering = gate.enter(party, doors[(n + round) % doors.len()]);
                    // Every third goes away after having been looked at once.
                    let permit = if (n + round) % 3 == 0 { entering.now_or_never() } else { Some(entering.await) };
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let state = gate.0.lock();
        assert_eq!((state.others, state.reads), (0, 0));
        assert!(state.waiting.is_empty());
    }
}
