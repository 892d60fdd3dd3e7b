//! Gate of a registry: the limit of requests in flight, the request rates, and the order of the waiting requests.
//!
//! A copy reads and writes at the same time, often within one registry, so permits could wait for each other in a
//! cycle. These rules prevent that:
//!
//! - A write acquires its permit only once its first bytes are available, so the holder of a write permit waits for no
//!   read permit.
//! - A read that resumes in the middle of a write waits for no permit.
//! - A read releases its permit at its last byte.
//! - Blob reads never take the last permit, so a write can always start, even if the limit has dropped below the number
//!   of reads in flight.
//!
//! Uploads take as long as their sources do. So the uploads of one party are at most seven times as many as the slots
//! that they leave free: an entry with a slow source always leaves slots to others.
//!
//! A request that waits for a rate, or for the end of a pause, holds no permit: writes that exceed their rate do not
//! delay reads. Parties take turns, and within a party requests enter in the order of their arrival.
//!
//! The limit adapts to the registry: it is halved when the registry asks the client to slow down, and raised by one
//! after the registry has answered as many requests as may be in flight. It never exceeds the configured limit. Time
//! plays no role in that.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::fair_queue::Tenant;
use super::pace::{Buckets, Class};
use super::snapshot::Crowd;
use super::wait_queue::{Closed, Resource, WaitQueue};
use crate::registry::flavor::profile::{DEFAULT_CONCURRENT, LimitsInForce};

/// Maximum number of uploads of a party for each slot that they leave free.
const MAX_UPLOAD_SHARE: usize = 7;

/// Entrance through which a request passes the gate, by what the request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// Request whose response does not wait for another request.
    Common,
    /// Blob read from its start: its body waits for the writer.
    BlobRead,
    /// Blob read that resumes in the middle of a write. It waits for no permit.
    BlobResumed,
    /// Bytes or commit of an upload that has started. It passes before all requests at other doors: a started upload
    /// holds memory and a read at the source.
    Continued,
    /// Token request on behalf of a request that holds a permit. It needs none.
    Token,
}

/// Class in which a permit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Read,
    /// Upload that has started, on this party's behalf.
    Upload(Tenant),
    Other,
}

impl RequestClass {
    /// Returns the queue of requests of a class at this door.
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

/// Door and class of the requests in each lane.
const PRIORITIES: [(RequestClass, Class); 9] = [
    (RequestClass::Continued, Class::Write),
    (RequestClass::BlobResumed, Class::Read),
    (RequestClass::Token, Class::Token),
    (RequestClass::Common, Class::Read),
    (RequestClass::Common, Class::ReferrerList),
    (RequestClass::Common, Class::Write),
    (RequestClass::Common, Class::Upload),
    (RequestClass::Common, Class::Delete),
    (RequestClass::BlobRead, Class::Read),
];

type Queue = WaitQueue<State, { PRIORITIES.len() }>;

/// Permit of a request, held until the body is read. The default permit counts nowhere.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    number: u64,
    held: Option<(Arc<Queue>, Place)>,
}

impl Permit {
    /// Returns the position of the request in the order in which requests entered.
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

/// Gate of one registry.
#[derive(Debug, Clone)]
pub(crate) struct ConcurrencyLimiter(Arc<Queue>);

#[derive(Debug)]
struct State {
    own: Weak<Queue>,
    /// Maximum of `limit`.
    configured: usize,
    /// Current maximum of requests in flight.
    limit: usize,
    /// Number of the first request that entered after the limit was last halved. Responses to earlier requests of the
    /// same burst carry no new information.
    halved_at: u64,
    /// Number of successes since the limit was last changed.
    successes: usize,
    reads: usize,
    others: usize,
    /// Number of these that are started uploads, by party. The default party is exempt: its uploads do not have to
    /// leave slots free.
    uploads: HashMap<Tenant, usize>,
    /// Number of requests that have entered so far.
    entered: u64,
    buckets: Buckets,
}

impl ConcurrencyLimiter {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        let configured = in_flight(limits);
        Self(WaitQueue::new(|own| State {
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

    /// Waits until a request of this class may be sent: for a permit and for all rates in which it counts, at the same
    /// time. Also returns the time for which rates or a pause delayed it. Cancel safe: a permit that its caller no
    /// longer takes goes to the next waiter.
    pub(crate) async fn enter(&self, tenant: Tenant, door: RequestClass, class: Class) -> (Permit, Duration) {
        let (permit, waited) = self.0.acquire(tenant, door.lane(class), NonZeroU32::MIN).await;
        // A waiter leaves its queue only with a permit. If the permit were lost, passing without one is better than a
        // standstill.
        (permit.unwrap_or_default(), waited)
    }

    /// Pauses all requests for this long.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.0.change(|state| state.buckets.pause(until));
    }

    /// Returns true if no request may be sent now. A request that entered some time ago should check this right before
    /// it is sent.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_for().is_some()
    }

    /// Returns the remaining time of the current pause, if there is one.
    pub(crate) fn paused_for(&self) -> Option<Duration> {
        let now = Instant::now();
        self.0.with_supply(|state| state.buckets.paused(now).map(|until| until - now))
    }

    /// Returns the number of requests in flight, and the limits that apply to them.
    pub(crate) fn current_crowd(&self) -> Crowd {
        self.0.with_supply(|state| Crowd {
            in_flight: state.reads + state.others,
            limit: state.limit,
            configured: state.configured,
            rates: state.buckets.rates(),
        })
    }

    /// Replaces the limits, also for waiting requests. Permits that were granted stay valid, and the use of a rate that
    /// stays the same is remembered.
    pub(crate) fn set_limits(&self, limits: &LimitsInForce) {
        self.0.change(|state| {
            state.configure(in_flight(limits));
            state.buckets.set(limits);
        });
    }

    /// Records that the request of this number succeeded.
    pub(crate) fn answered(&self, number: u64) {
        self.0.change(|state| state.answered(number));
    }

    /// Records that the registry answered the request of this number by asking the client to slow down. Returns the new
    /// limit if that lowers it.
    pub(crate) fn throttled(&self, number: u64) -> Option<usize> {
        // A lower limit lets no further request enter.
        self.0.with_supply(|state| state.throttled(number))
    }
}

fn in_flight(limits: &LimitsInForce) -> usize {
    limits.concurrent.value.unwrap_or(DEFAULT_CONCURRENT).max(1)
}

impl Resource for State {
    type Grant = Permit;

    /// Lanes of started uploads, and of requests on their behalf.
    const FIRST: usize = 3;

    fn take(&mut self, tenant: Tenant, lane: usize, _: NonZeroU32, now: Instant) -> Result<Permit, Closed> {
        let (door, class) = PRIORITIES[lane];
        let place = match door {
            RequestClass::Continued if tenant != Tenant::default() => Some(Place::Upload(tenant)),
            RequestClass::Common | RequestClass::Continued => Some(Place::Other),
            RequestClass::BlobRead => Some(Place::Read),
            RequestClass::BlobResumed => Some(Place::Read).filter(|place| self.admits(*place)),
            RequestClass::Token => None,
        };
        if place.is_some_and(|place| !self.admits(place)) {
            return Err(Closed::UntilChanged);
        }
        if matches!(place, Some(Place::Upload(tenant)) if self.has_full_share(tenant)) {
            return Err(Closed::ToParty);
        }
        self.buckets.take(class, now).map_err(Closed::Until)?;
        Ok(self.create_permit(place))
    }
}

impl State {
    fn enter(&mut self, place: Place) {
        match place {
            Place::Read => self.reads += 1,
            Place::Upload(tenant) => {
                self.others += 1;
                *self.uploads.entry(tenant).or_default() += 1;
            }
            Place::Other => self.others += 1,
        }
    }

    fn leave(&mut self, place: Place) {
        match place {
            Place::Read => self.reads -= 1,
            Place::Upload(tenant) => {
                self.others -= 1;
                if let Some(uploads) = self.uploads.get_mut(&tenant) {
                    *uploads -= 1;
                    if *uploads == 0 {
                        self.uploads.remove(&tenant);
                    }
                }
            }
            Place::Other => self.others -= 1,
        }
    }

    /// Returns true if one more upload of a party would leave too few slots to others. The first upload of a party may
    /// always start.
    fn has_full_share(&self, tenant: Tenant) -> bool {
        let Some(uploads) = self.uploads.get(&tenant) else { return false };
        let left = self.limit.saturating_sub(self.reads + self.others + 1);
        *uploads >= MAX_UPLOAD_SHARE * left
    }

    /// Returns true if one more request may be in flight.
    fn admits(&self, place: Place) -> bool {
        match place {
            Place::Upload(_) | Place::Other => self.others < self.limit.saturating_sub(self.reads).max(1),
            // With a single permit, a blob read passes beside it: otherwise no copy within the registry could finish.
            Place::Read if self.limit == 1 => self.reads == 0,
            Place::Read => self.reads < self.limit - 1 && self.reads + self.others < self.limit,
        }
    }

    /// Creates a permit that counts as `place`, or one that counts nowhere.
    fn create_permit(&mut self, place: Option<Place>) -> Permit {
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

    /// Replaces the configured limit. A limit that was lowered for the registry stays as low, and rises to the new
    /// maximum over time.
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

    /// Starts to wait at a door, and asserts that it is closed.
    fn queue(gate: &ConcurrencyLimiter, door: RequestClass) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(entered(gate, Tenant::default(), door));
        assert!(entering.as_mut().now_or_never().is_none(), "{door:?} is open");
        entering
    }

    fn limits(concurrent: usize) -> LimitsInForce {
        let limits = Limits { concurrent: Figure::Set(concurrent), ..Limits::default() };
        limits.in_force(&"a.example".parse().unwrap(), None)
    }

    fn gate(concurrent: usize) -> ConcurrencyLimiter {
        ConcurrencyLimiter::new(&limits(concurrent))
    }

    async fn entered(gate: &ConcurrencyLimiter, tenant: Tenant, door: RequestClass) -> Permit {
        let class = PRIORITIES.iter().find(|(known, _)| *known == door).map_or(Class::Read, |(_, class)| *class);
        gate.enter(tenant, door, class).await.0
    }

    fn enter(gate: &ConcurrencyLimiter, door: RequestClass) -> Option<Permit> {
        entered(gate, Tenant::default(), door).now_or_never()
    }

    #[test]
    fn blob_reads_leave_a_permit_for_a_write() {
        let gate = gate(3);
        let read = || enter(&gate, RequestClass::BlobRead);
        let (first, second) = (read().unwrap(), read().unwrap());
        assert!(read().is_none());
        let write = enter(&gate, RequestClass::Common).unwrap();
        assert!(enter(&gate, RequestClass::Common).is_none());
        assert!(enter(&gate, RequestClass::BlobResumed).is_some());
        drop((first, write));
        assert!(read().is_some());
        drop(second);
    }

    #[test]
    fn resumed_read_leaves_the_last_permit_for_a_write() {
        let gate = gate(2);
        let _read = enter(&gate, RequestClass::BlobRead).unwrap();
        let _resumed = enter(&gate, RequestClass::BlobResumed).unwrap();
        assert!(enter(&gate, RequestClass::Continued).is_some());
    }

    #[test]
    fn copy_within_a_registry_works_with_one_permit() {
        let gate = gate(1);
        let _read = enter(&gate, RequestClass::BlobRead).unwrap();
        let _write = enter(&gate, RequestClass::Common).unwrap();
        assert!(enter(&gate, RequestClass::Common).is_none());
        assert!(enter(&gate, RequestClass::BlobRead).is_none());
    }

    #[test]
    fn waiting_requests_enter_in_order_of_arrival() {
        let gate = gate(2);
        let held = [(); 2].map(|()| enter(&gate, RequestClass::Common).unwrap());
        let doors = [
            RequestClass::Common,
            RequestClass::BlobRead,
            RequestClass::Common,
            RequestClass::BlobRead,
            RequestClass::Common,
        ];
        let mut waiting: Vec<_> = doors.into_iter().map(|door| Some(queue(&gate, door))).collect();
        let [keep, first] = held;
        drop(first);
        let mut order = Vec::new();
        while order.len() < doors.len() {
            let open = waiting.iter_mut().enumerate().filter_map(|(at, entering)| Some((at, entering.as_mut()?)));
            let entered: Vec<(usize, Permit)> =
                open.filter_map(|(at, entering)| Some((at, entering.as_mut().now_or_never()?))).collect();
            assert_eq!(entered.len(), 1, "one permit lets in one");
            waiting[entered[0].0] = None;
            order.push(entered[0].0);
        }
        assert_eq!(order, [0, 1, 2, 3, 4]);
        drop(keep);
    }

    #[test]
    fn parties_enter_in_turn_at_all_doors() {
        let gate = gate(2);
        let (keep, first) = (enter(&gate, RequestClass::Common).unwrap(), enter(&gate, RequestClass::Common).unwrap());
        let (big, small) = (Tenant::from_name("big"), Tenant::from_name("small"));
        let doors = [
            (big, RequestClass::BlobRead),
            (big, RequestClass::Common),
            (big, RequestClass::BlobRead),
            (small, RequestClass::Common),
            (small, RequestClass::Common),
        ];
        let mut waiting: Vec<_> =
            doors.into_iter().map(|(tenant, door)| Some(Box::pin(entered(&gate, tenant, door)))).collect();
        for entering in waiting.iter_mut().flatten() {
            assert!(entering.as_mut().now_or_never().is_none());
        }
        drop(first);
        let mut order = Vec::new();
        while order.len() < doors.len() {
            let at = waiting
                .iter_mut()
                .position(|slot| slot.as_mut().is_some_and(|entering| entering.as_mut().now_or_never().is_some()));
            let at = at.expect("one goes in when one comes out");
            waiting[at] = None;
            order.push(at);
        }
        assert_eq!(order, [0, 3, 1, 4, 2]);
        drop(keep);
    }

    #[test]
    fn slow_uploads_leave_slots_and_first_upload_always_starts() {
        let uploads = |gate: &ConcurrencyLimiter, name: &str| -> Vec<Permit> {
            let tenant = Tenant::from_name(name);
            std::iter::from_fn(|| entered(gate, tenant, RequestClass::Continued).now_or_never()).collect()
        };
        for (limit, expected) in [(32, [28, 3, 1]), (8, [7, 1, 0]), (4, [3, 1, 0]), (2, [1, 1, 0]), (1, [1, 0, 0])] {
            let gate = gate(limit);
            let held = ["a", "b", "c"].map(|name| uploads(&gate, name));
            assert_eq!(held.each_ref().map(Vec::len), expected, "{limit}");
        }
    }

    #[test]
    fn other_party_passes_a_party_with_a_full_share() {
        let gate = gate(4);
        let (slow, quick) = (Tenant::from_name("slow"), Tenant::from_name("quick"));
        let mut held: Vec<_> =
            (0..3).map(|_| entered(&gate, slow, RequestClass::Continued).now_or_never().unwrap()).collect();
        let mut more: Entering<'_> = Box::pin(entered(&gate, slow, RequestClass::Continued));
        assert!(more.as_mut().now_or_never().is_none());
        for _ in 0..3 {
            entered(&gate, quick, RequestClass::Continued).now_or_never().expect("another party gets a slot");
        }
        held.pop();
        assert!(more.as_mut().now_or_never().is_some());
    }

    #[test]
    fn changed_limit_applies_immediately() {
        let gate = gate(2);
        let held = [(); 2].map(|()| enter(&gate, RequestClass::Common).unwrap());
        let mut waiting = [queue(&gate, RequestClass::Common), queue(&gate, RequestClass::Common)];
        gate.set_limits(&limits(3));
        let third = waiting[0].as_mut().now_or_never().unwrap();
        assert!(waiting[1].as_mut().now_or_never().is_none());
        gate.set_limits(&limits(1));
        drop(held);
        assert!(waiting[1].as_mut().now_or_never().is_none());
        drop(third);
        assert!(waiting[1].as_mut().now_or_never().is_some());
    }

    #[test]
    fn lowered_limit_is_not_raised_by_new_configuration() {
        let gate = gate(8);
        gate.throttled(enter(&gate, RequestClass::Common).unwrap().number());
        gate.set_limits(&limits(20));
        assert_eq!(limit(&gate), 4);
        gate.set_limits(&limits(2));
        assert_eq!(limit(&gate), 2);
    }

    #[test]
    fn started_uploads_enter_before_all_other_requests() {
        let gate = gate(2);
        let (first, _second) =
            (enter(&gate, RequestClass::Common).unwrap(), enter(&gate, RequestClass::Common).unwrap());
        let mut read = queue(&gate, RequestClass::BlobRead);
        let mut common = queue(&gate, RequestClass::Common);
        let mut continued = [queue(&gate, RequestClass::Continued), queue(&gate, RequestClass::Continued)];
        drop(first);
        assert!(read.as_mut().now_or_never().is_none() && common.as_mut().now_or_never().is_none());
        assert!(continued[1].as_mut().now_or_never().is_none());
        drop(continued[0].as_mut().now_or_never().unwrap());
        drop(continued[1].as_mut().now_or_never().unwrap());
        drop(read.now_or_never().unwrap());
        assert!(common.now_or_never().is_some());
    }

    #[test]
    fn waiting_blob_read_delays_no_other_request() {
        let gate = gate(3);
        let reads = [(); 2].map(|()| enter(&gate, RequestClass::BlobRead).unwrap());
        let mut third = queue(&gate, RequestClass::BlobRead);
        let write = enter(&gate, RequestClass::Common).unwrap();
        let mut next = queue(&gate, RequestClass::Common);
        drop(write);
        assert!(third.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_some());
        drop(reads);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn cancelled_request_passes_its_turn_on() {
        let gate = gate(1);
        let held = enter(&gate, RequestClass::Common).unwrap();
        let [gone, granted, mut last] = [(); 3].map(|()| queue(&gate, RequestClass::Common));
        drop(gone);
        drop(held);
        // The second request has been granted the permit, but nobody polls that request.
        assert!(last.as_mut().now_or_never().is_none());
        drop(granted);
        let permit = last.now_or_never().unwrap();
        assert!(enter(&gate, RequestClass::Common).is_none());
        drop(permit);
        assert!(enter(&gate, RequestClass::Common).is_some());
        assert_eq!(gate.0.with_supply(|state| (state.others, state.reads)), (0, 0));
    }

    fn with_rate(concurrent: usize, writes: u32) -> ConcurrencyLimiter {
        let writes = Figure::Set(Rate { count: writes, per: Duration::from_secs(3600) });
        let limits = Limits { concurrent: Figure::Set(concurrent), writes, ..Limits::default() };
        ConcurrencyLimiter::new(&limits.in_force(&"a.example".parse().unwrap(), None))
    }

    #[test]
    fn lane_of_each_door_matches_the_table() {
        for (lane, (door, class)) in PRIORITIES.into_iter().enumerate() {
            assert_eq!(door.lane(class), lane, "{door:?} {class:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_waiting_for_a_rate_holds_no_permit() {
        let gate = with_rate(2, 10);
        let write = || gate.enter(Tenant::default(), RequestClass::Common, Class::Write);
        drop(write().await);
        let mut waiting = [(); 5].map(|()| Box::pin(write()));
        for entering in &mut waiting {
            assert!(entering.as_mut().now_or_never().is_none());
        }
        let reads = [(); 2].map(|()| enter(&gate, RequestClass::Common).unwrap());
        assert!(enter(&gate, RequestClass::Common).is_none());
        drop(reads);
        let (_, waited) = waiting[0].as_mut().await;
        assert_eq!(waited.as_secs(), 360);
    }

    #[tokio::test(start_paused = true)]
    async fn request_waiting_for_a_permit_uses_no_rate() {
        let gate = with_rate(1, 10);
        let held = enter(&gate, RequestClass::Common).unwrap();
        let mut gone = Box::pin(gate.enter(Tenant::default(), RequestClass::Common, Class::Write));
        assert!(gone.as_mut().now_or_never().is_none());
        drop((gone, held));
        assert!(gate.enter(Tenant::default(), RequestClass::Common, Class::Write).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn entries_share_a_rate_fairly_with_many_permits() {
        let gate = with_rate(1000, 3600);
        for _ in 0..32 {
            drop(gate.enter(Tenant::default(), RequestClass::Common, Class::Write).await);
        }
        let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
        for name in std::iter::repeat_n("big", 100).chain(["small"; 2]) {
            let (gate, sender) = (gate.clone(), sender.clone());
            tokio::spawn(async move {
                drop(gate.enter(Tenant::from_name(name), RequestClass::Common, Class::Write).await);
                sender.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let first: Vec<_> = [went.recv().await, went.recv().await, went.recv().await, went.recv().await].into();
        assert_eq!(first, [Some("big"), Some("small"), Some("big"), Some("small")]);
    }

    #[tokio::test(start_paused = true)]
    async fn pause_holds_all_requests_and_is_never_shortened() {
        let gate = gate(4);
        let began = Instant::now();
        gate.pause(Duration::from_secs(30));
        gate.pause(Duration::from_secs(1));
        assert!(gate.is_paused());
        let all = PRIORITIES.map(|(door, class)| gate.enter(Tenant::default(), door, class));
        let entered = futures_util::future::join_all(all.map(|entering| async { drop(entering.await) }));
        entered.await;
        assert!(began.elapsed() >= Duration::from_secs(30) && began.elapsed() < Duration::from_secs(31));
        assert!(!gate.is_paused());
        assert_eq!(gate.enter(Tenant::default(), RequestClass::Common, Class::Read).await.1, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn pause_holds_requests_that_wait_for_a_rate() {
        let gate = with_rate(4, 10);
        drop(gate.enter(Tenant::default(), RequestClass::Common, Class::Write).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(Tenant::default(), RequestClass::Common, Class::Write).await.1 }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        gate.pause(Duration::from_secs(600));
        assert_eq!(waiting.await.unwrap().as_secs(), 605);
    }

    fn limit(gate: &ConcurrencyLimiter) -> usize {
        gate.0.with_supply(|state| state.limit)
    }

    #[test]
    fn limit_is_halved_once_per_burst_down_to_one() {
        let gate = gate(10);
        let burst: Vec<Permit> = (0..10).map(|_| enter(&gate, RequestClass::Common).unwrap()).collect();
        assert_eq!(gate.throttled(burst[3].number()), Some(5));
        for permit in &burst {
            assert_eq!(gate.throttled(permit.number()), None);
        }
        drop(burst);
        for limits in [(5, Some(2)), (2, Some(1)), (1, None), (1, None)] {
            let permit = enter(&gate, RequestClass::Common).unwrap();
            assert_eq!((limit(&gate), gate.throttled(permit.number())), limits);
        }
        assert_eq!(limit(&gate), 1);
    }

    #[test]
    fn successes_raise_the_limit_up_to_the_configured_one() {
        let gate = gate(8);
        let late = enter(&gate, RequestClass::Common).unwrap();
        gate.throttled(enter(&gate, RequestClass::Common).unwrap().number());
        let limits: Vec<usize> = (0..30)
            .map(|_| {
                // A response to the burst does not count.
                gate.answered(late.number());
                gate.answered(enter(&gate, RequestClass::Common).unwrap().number());
                limit(&gate)
            })
            .collect();
        let expected = [[4; 3].as_slice(), &[5; 5], &[6; 6], &[7; 7], &[8; 9]].concat();
        assert_eq!(limits, expected);
    }

    #[test]
    fn successes_before_a_burst_do_not_count_after_it() {
        let gate = gate(8);
        let through = |success: bool| {
            let number = enter(&gate, RequestClass::Common).unwrap().number();
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
    fn lowered_limit_admits_nobody_and_raised_limit_does() {
        let gate = gate(4);
        let mut held: Vec<Permit> = (0..4).map(|_| enter(&gate, RequestClass::Common).unwrap()).collect();
        assert_eq!(gate.throttled(held[0].number()), Some(2));
        let mut waiting = queue(&gate, RequestClass::Common);
        held.truncate(2);
        assert!(waiting.as_mut().now_or_never().is_none());
        held.truncate(1);
        let first = waiting.now_or_never().unwrap();
        let mut waiting = queue(&gate, RequestClass::Common);
        gate.answered(first.number());
        gate.answered(first.number());
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[test]
    fn write_enters_while_reads_exceed_a_lowered_limit() {
        let gate = gate(4);
        let reads = [(); 3].map(|()| enter(&gate, RequestClass::BlobRead).unwrap());
        gate.throttled(reads[0].number());
        assert_eq!(limit(&gate), 2);
        let write = enter(&gate, RequestClass::Continued).unwrap();
        assert!(enter(&gate, RequestClass::Common).is_none());
        drop(write);
        assert!(enter(&gate, RequestClass::Common).is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_waiter_is_lost_under_many_cancellations() {
        let gate = Arc::new(gate(3));
        let doors = [RequestClass::Common, RequestClass::BlobRead, RequestClass::Continued, RequestClass::BlobResumed];
        let tasks = (0..400_usize).map(|n| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                for round in 0..50 {
                    let tenant = Tenant::from_name(["a", "b", "c"][n % 3]);
                    let entering = entered(&gate, tenant, doors[(n + round) % doors.len()]);
                    // Every third request is cancelled after one poll.
                    let permit = if (n + round) % 3 == 0 { entering.now_or_never() } else { Some(entering.await) };
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(gate.0.with_supply(|state| (state.others, state.reads)), (0, 0));
        assert!(gate.0.is_empty());
    }
}
