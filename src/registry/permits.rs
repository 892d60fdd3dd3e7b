//! The gate of a registry: how many requests are in flight, what goes by the rates, and who goes next.
//!
//! A copy reads and writes at once, often within one registry, so permits could wait for each other in a ring.
//! They cannot here: a write enters when its first bytes are here, so who holds a permit to write waits for no permit
//! to read; a read that goes on in its midst waits for no permit; a read lets go as soon as its last byte is here; and blob
//! reads never take the last permit, so a write can always begin, also when the limit has shrunk below the reads in flight.
//!
//! Uploads take as long as their sources do. So one party's are at most seven times as many as what they leave free: an
//! entry whose source is slow always leaves places to others.
//!
//! Who waits for a rate, or for the end of a pause, holds no permit: writes that are over their rate hold up no reads.
//! Parties take turns, and within a party who came first goes first.
//!
//! The limit follows the registry: halved where it asks for patience, raised by one where it has answered as many requests
//! as it may have in flight, never above what is configured. Time plays no role in that.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::LimitsInForce;
use super::line::{Closed, Line, Supply};
use super::load::Crowd;
use super::pace::{Buckets, Class};
use super::turns::Party;

/// How many uploads a party may have in flight, measured by the places that it leaves free.
const SHARE: usize = 7;

/// Requests in flight where nothing is configured.
pub(crate) const DEFAULT_CONCURRENT: usize = 32;

/// Which door a request goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Everything whose answer does not wait for another request.
    Common,
    /// A blob read from its start: its body waits for whoever writes it.
    BlobRead,
    /// A blob read that goes on in the midst of a write. It waits for no permit.
    BlobResumed,
    /// The bytes or the end of an upload that has begun. It goes before all that wait at another door: what is begun holds
    /// memory and a read at the source.
    Continued,
    /// Asking for a token, on behalf of a request that holds a permit. It needs none.
    Token,
}

/// What a permit counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Read,
    /// Of an upload that has begun, on this party's behalf.
    Upload(Party),
    Other,
}

impl Door {
    /// The queue of requests of a class at this door.
    fn lane(self, class: Class) -> usize {
        match (self, class) {
            (Self::Continued, _) => 0,
            (Self::BlobResumed, _) => 1,
            (Self::Token, _) => 2,
            (Self::Common, Class::Read | Class::Token) => 3,
            (Self::Common, Class::ReferrerList) => 4,
            (Self::Common, Class::Write) => 5,
            (Self::Common, Class::Upload) => 6,
            (Self::Common, Class::Delete) => 7,
            (Self::BlobRead, _) => 8,
        }
    }
}

/// What waits in each lane.
const LANES: [(Door, Class); 9] = [
    (Door::Continued, Class::Write),
    (Door::BlobResumed, Class::Read),
    (Door::Token, Class::Token),
    (Door::Common, Class::Read),
    (Door::Common, Class::ReferrerList),
    (Door::Common, Class::Write),
    (Door::Common, Class::Upload),
    (Door::Common, Class::Delete),
    (Door::BlobRead, Class::Read),
];

type Queue = Line<State, { LANES.len() }>;

/// Held until the body is read. The default is held by nobody.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    number: u64,
    held: Option<(Arc<Queue>, Place)>,
}

impl Permit {
    /// Its place in the order in which requests entered.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((queue, place)) = self.held.take() {
            queue.change(|state| state.leave(place));
        }
    }
}

/// The gate of one registry.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Queue>);

#[derive(Debug)]
struct State {
    own: Weak<Queue>,
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
    /// Of these, the uploads that have begun, by party. Nobody in particular need not leave anything.
    uploads: HashMap<Party, usize>,
    /// How many requests have entered so far.
    entered: u64,
    buckets: Buckets,
}

impl Gate {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        let configured = in_flight(limits);
        Self(Line::new(|own| State {
            own: own.clone(),
            configured,
            limit: configured,
            halved_at: 0,
            successes: 0,
            reads: 0,
            others: 0,
            uploads: HashMap::new(),
            entered: 0,
            buckets: Buckets::new(limits),
        }))
    }

    /// Waits until a request of this class may be sent: for a permit and for all rates that it counts in at once. Also how long
    /// the rates or a pause let wait. Cancel safe: a permit that nobody takes any more goes to the next.
    pub(crate) async fn enter(&self, party: Party, door: Door, class: Class) -> (Permit, Duration) {
        let (permit, waited) = self.0.pass(party, door.lane(class), NonZeroU32::MIN).await;
        // A waiter leaves its queue with a permit only; were it lost, passing beside is better than standing still.
        (permit.unwrap_or_default(), waited)
    }

    /// Lets nothing go for this long.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.0.change(|state| state.buckets.pause(until));
    }

    /// Whether nothing may go now: to be asked right before a request is sent that has entered a while ago.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_for().is_some()
    }

    /// How long nothing may go yet, if so.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        let now = Instant::now();
        self.0.look(|state| state.buckets.paused(now).map(|until| until - now))
    }

    /// How many requests are in flight, and what holds for them.
    pub(super) fn crowd(&self) -> Crowd {
        self.0.look(|state| Crowd {
            in_flight: state.reads + state.others,
            limit: state.limit,
            configured: state.configured,
            rates: state.buckets.rates(),
        })
    }

    /// Other limits from now on, for who waits already too. Who is in stays, and what went by a rate that stays is remembered.
    pub(crate) fn set(&self, limits: &LimitsInForce) {
        self.0.change(|state| {
            state.configure(in_flight(limits));
            state.buckets.set(limits);
        });
    }

    /// Takes in that the request of this number was answered.
    pub(crate) fn answered(&self, number: u64) {
        self.0.change(|state| state.answered(number));
    }

    /// Takes in that the request of this number was asked for patience. Returns the new limit where that lowers it.
    pub(crate) fn throttled(&self, number: u64) -> Option<usize> {
        // Nobody enters by that.
        self.0.look(|state| state.throttled(number))
    }
}

fn in_flight(limits: &LimitsInForce) -> usize {
    limits.concurrent.value.unwrap_or(DEFAULT_CONCURRENT).max(1)
}

impl Supply for State {
    type Grant = Permit;

    /// What is begun, and what is on behalf of what is begun.
    const FIRST: usize = 3;

    fn take(&mut self, party: Party, lane: usize, _: NonZeroU32, now: Instant) -> Result<Permit, Closed> {
        let (door, class) = LANES[lane];
        let place = match door {
            Door::Continued if party != Party::default() => Some(Place::Upload(party)),
            Door::Common | Door::Continued => Some(Place::Other),
            Door::BlobRead => Some(Place::Read),
            Door::BlobResumed => Some(Place::Read).filter(|place| self.admits(*place)),
            Door::Token => None,
        };
        if place.is_some_and(|place| !self.admits(place)) {
            return Err(Closed::UntilChanged);
        }
        if matches!(place, Some(Place::Upload(party)) if self.has_its_share(party)) {
            return Err(Closed::ToParty);
        }
        self.buckets.take(class, now).map_err(Closed::Until)?;
        Ok(self.permit(place))
    }
}

impl State {
    fn enter(&mut self, place: Place) {
        match place {
            Place::Read => self.reads += 1,
            Place::Upload(party) => {
                self.others += 1;
                *self.uploads.entry(party).or_default() += 1;
            }
            Place::Other => self.others += 1,
        }
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Read => self.reads -= 1,
            Place::Upload(party) => {
                self.others -= 1;
                if let Some(uploads) = self.uploads.get_mut(&party) {
                    *uploads -= 1;
                    if *uploads == 0 {
                        self.uploads.remove(&party);
                    }
                }
            }
            Place::Other => self.others -= 1,
        }
    }

    /// Whether one more upload of a party would leave too little to others. Its first may always begin.
    fn has_its_share(&self, party: Party) -> bool {
        let Some(uploads) = self.uploads.get(&party) else { return false };
        let left = self.limit.saturating_sub(self.reads + self.others + 1);
        *uploads >= SHARE * left
    }

    /// Whether one more may be in flight.
    fn admits(&self, place: Place) -> bool {
        match place {
            Place::Upload(_) | Place::Other => self.others < self.limit.saturating_sub(self.reads).max(1),
            // With a single permit, a blob read passes beside it: else nothing could be copied within the registry.
            Place::Read if self.limit == 1 => self.reads == 0,
            Place::Read => self.reads < self.limit - 1 && self.reads + self.others < self.limit,
        }
    }

    /// A permit that counts here, or for nothing.
    fn permit(&mut self, place: Option<Place>) -> Permit {
        let number = self.entered;
        self.entered += 1;
        let held = place.and_then(|place| Some((self.own.upgrade()?, place)));
        if let Some((_, place)) = held {
            self.enter(place);
        }
        Permit { number, held }
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

    /// Another limit. One that was lowered for the registry's sake stays as low, and goes up to the new one in time.
    fn configure(&mut self, configured: usize) {
        let untouched = self.limit == self.configured;
        self.limit = if untouched { configured } else { self.limit.min(configured) };
        self.configured = configured;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::registry::{Figure, Limits, Rate};

    type Entering<'a> = Pin<Box<dyn Future<Output = Permit> + 'a>>;

    /// Stands at a door, and must find it closed.
    fn queue(gate: &Gate, door: Door) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(entered(gate, Party::default(), door));
        assert!(entering.as_mut().now_or_never().is_none(), "{door:?} is open");
        entering
    }

    fn limits(concurrent: usize) -> LimitsInForce {
        let limits = Limits { concurrent: Figure::Set(concurrent), ..Limits::default() };
        limits.in_force(&"a.example".parse().unwrap(), None)
    }

    fn gate(concurrent: usize) -> Gate {
        Gate::new(&limits(concurrent))
    }

    async fn entered(gate: &Gate, party: Party, door: Door) -> Permit {
        let class = LANES.iter().find(|(known, _)| *known == door).map_or(Class::Read, |(_, class)| *class);
        gate.enter(party, door, class).await.0
    }

    fn enter(gate: &Gate, door: Door) -> Option<Permit> {
        entered(gate, Party::default(), door).now_or_never()
    }

    #[test]
    fn blob_reads_leave_a_permit_for_a_write() {
        let gate = gate(3);
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
        let gate = gate(2);
        let _read = enter(&gate, Door::BlobRead).unwrap();
        let _resumed = enter(&gate, Door::BlobResumed).unwrap();
        assert!(enter(&gate, Door::Continued).is_some());
    }

    #[test]
    fn a_registry_with_one_permit_can_be_copied_within() {
        let gate = gate(1);
        let _read = enter(&gate, Door::BlobRead).unwrap();
        let _write = enter(&gate, Door::Common).unwrap();
        assert!(enter(&gate, Door::Common).is_none());
        assert!(enter(&gate, Door::BlobRead).is_none());
    }

    #[test]
    fn who_waits_enters_in_the_order_of_coming() {
        let gate = gate(2);
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
        let gate = gate(2);
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
            doors.into_iter().map(|(party, door)| Some(Box::pin(entered(&gate, party, door)))).collect();
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
    fn a_party_of_slow_uploads_leaves_places_to_others_and_the_first_may_always_begin() {
        let uploads = |gate: &Gate, name: &str| -> Vec<Permit> {
            let party = Party::of(name);
            std::iter::from_fn(|| entered(gate, party, Door::Continued).now_or_never()).collect()
        };
        for (limit, expected) in [(32, [28, 3, 1]), (8, [7, 1, 0]), (4, [3, 1, 0]), (2, [1, 1, 0]), (1, [1, 0, 0])] {
            let gate = gate(limit);
            let held = ["a", "b", "c"].map(|name| uploads(&gate, name));
            assert_eq!(held.each_ref().map(Vec::len), expected, "{limit}");
        }
    }

    #[test]
    fn another_party_passes_one_that_has_its_share_and_that_goes_on_when_one_of_its_own_has_ended() {
        let gate = gate(4);
        let (slow, quick) = (Party::of("slow"), Party::of("quick"));
        let mut held: Vec<_> = (0..3).map(|_| entered(&gate, slow, Door::Continued).now_or_never().unwrap()).collect();
        let mut more: Entering<'_> = Box::pin(entered(&gate, slow, Door::Continued));
        assert!(more.as_mut().now_or_never().is_none());
        for _ in 0..3 {
            entered(&gate, quick, Door::Continued).now_or_never().expect("another party finds a place");
        }
        held.pop();
        assert!(more.as_mut().now_or_never().is_some());
    }

    #[test]
    fn another_limit_holds_at_once() {
        let gate = gate(2);
        let held = [(); 2].map(|()| enter(&gate, Door::Common).unwrap());
        let mut waiting = [queue(&gate, Door::Common), queue(&gate, Door::Common)];
        gate.set(&limits(3));
        let third = waiting[0].as_mut().now_or_never().unwrap();
        assert!(waiting[1].as_mut().now_or_never().is_none());
        gate.set(&limits(1));
        drop(held);
        assert!(waiting[1].as_mut().now_or_never().is_none());
        drop(third);
        assert!(waiting[1].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_limit_that_the_registry_lowered_is_not_raised_by_another_configuration() {
        let gate = gate(8);
        gate.throttled(enter(&gate, Door::Common).unwrap().number());
        gate.set(&limits(20));
        assert_eq!(limit(&gate), 4);
        gate.set(&limits(2));
        assert_eq!(limit(&gate), 2);
    }

    #[test]
    fn what_is_begun_goes_before_all_else() {
        let gate = gate(2);
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
        let gate = gate(3);
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
        let gate = gate(1);
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
        assert_eq!(gate.0.look(|state| (state.others, state.reads)), (0, 0));
    }

    fn with_rate(concurrent: usize, writes: u32) -> Gate {
        let writes = Figure::Set(Rate { count: writes, per: Duration::from_secs(3600) });
        let limits = Limits { concurrent: Figure::Set(concurrent), writes, ..Limits::default() };
        Gate::new(&limits.in_force(&"a.example".parse().unwrap(), None))
    }

    #[test]
    fn the_lane_of_each_door_is_the_one_that_is_meant() {
        for (lane, (door, class)) in LANES.into_iter().enumerate() {
            assert_eq!(door.lane(class), lane, "{door:?} {class:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_rate_holds_no_permit() {
        let gate = with_rate(2, 10);
        let write = || gate.enter(Party::default(), Door::Common, Class::Write);
        drop(write().await);
        let mut waiting = [(); 5].map(|()| Box::pin(write()));
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        let reads = [(); 2].map(|()| enter(&gate, Door::Common).unwrap());
        assert!(enter(&gate, Door::Common).is_none());
        drop(reads);
        let (_, waited) = waiting[0].as_mut().await;
        assert_eq!(waited.as_secs(), 360);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_a_permit_has_used_up_no_rate() {
        let gate = with_rate(1, 10);
        let held = enter(&gate, Door::Common).unwrap();
        let mut gone = Box::pin(gate.enter(Party::default(), Door::Common, Class::Write));
        assert!(gone.as_mut().now_or_never().is_none());
        drop((gone, held));
        assert!(gate.enter(Party::default(), Door::Common, Class::Write).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn entries_share_a_rate_fairly_however_many_permits_there_are() {
        let gate = with_rate(1000, 3600);
        for _ in 0..32 {
            drop(gate.enter(Party::default(), Door::Common, Class::Write).await);
        }
        let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
        for name in std::iter::repeat_n("big", 100).chain(["small"; 2]) {
            let (gate, sender) = (gate.clone(), sender.clone());
            tokio::spawn(async move {
                drop(gate.enter(Party::of(name), Door::Common, Class::Write).await);
                sender.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let first: Vec<_> = [went.recv().await, went.recv().await, went.recv().await, went.recv().await].into();
        assert_eq!(first, [Some("big"), Some("small"), Some("big"), Some("small")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everything_and_a_shorter_one_does_not_end_it() {
        let gate = gate(4);
        let began = Instant::now();
        gate.pause(Duration::from_secs(30));
        gate.pause(Duration::from_secs(1));
        assert!(gate.is_paused());
        let all = LANES.map(|(door, class)| gate.enter(Party::default(), door, class));
        let entered = futures_util::future::join_all(all.map(|entering| async { drop(entering.await) }));
        entered.await;
        assert!(began.elapsed() >= Duration::from_secs(30) && began.elapsed() < Duration::from_secs(31));
        assert!(!gate.is_paused());
        assert_eq!(gate.enter(Party::default(), Door::Common, Class::Read).await.1, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_who_waits_for_a_rate_already() {
        let gate = with_rate(4, 10);
        drop(gate.enter(Party::default(), Door::Common, Class::Write).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(Party::default(), Door::Common, Class::Write).await.1 }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        gate.pause(Duration::from_secs(600));
        assert_eq!(waiting.await.unwrap().as_secs(), 605);
    }

    fn limit(gate: &Gate) -> usize {
        gate.0.look(|state| state.limit)
    }

    #[test]
    fn the_limit_is_halved_once_a_burst_and_never_below_one() {
        let gate = gate(10);
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
        let gate = gate(8);
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
        let gate = gate(8);
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
        let gate = gate(4);
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
        let gate = gate(4);
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
        let gate = Arc::new(gate(3));
        let doors = [Door::Common, Door::BlobRead, Door::Continued, Door::BlobResumed];
        let tasks = (0..400_usize).map(|n| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for round in 0..50 {
                    let party = Party::of(["a", "b", "c"][n % 3]);
                    let entering = entered(&gate, party, doors[(n + round) % doors.len()]);
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
        assert_eq!(gate.0.look(|state| (state.others, state.reads)), (0, 0));
        assert!(gate.0.is_empty());
    }
}
