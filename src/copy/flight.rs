//! Single flight: at one time one blob is sent to one registry by one sender only. Everyone else waits, and then
//! finds or mounts it. Only who reads from elsewhere does not wait for a sender that is slow: its source is another one, and a
//! slow registry is to hold up nobody who has nothing to do with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::event::BlobOutcome;
use super::lane::{AtWork, Lane};
use crate::oci::{Descriptor, Digest, RepositoryName};
use crate::store::Scope;

/// How long "this blob is in that repository" is believed without asking. The target's own garbage collection may
/// prove it wrong at any time; the manifest's PUT tells, and the blob is sent again.
const BELIEVED_FOR: Duration = Duration::from_secs(600);

/// How many blobs are remembered. At about 200 bytes each this is some 13 MiB at most.
const REMEMBERED: usize = 65_536;

/// How often who waits looks whether the one it waits for gets on.
const LOOK: Duration = Duration::from_secs(10);

/// How much longer, by what it has done so far, a sender may need for others to wait for it who could read elsewhere.
const PATIENCE: Duration = Duration::from_secs(60);

/// A repository of a scope; a layout has just one, without a name.
pub(super) type Room = Option<RepositoryName>;

/// All flights of the process.
#[derive(Debug, Default)]
pub(super) struct Flights {
    table: Mutex<Table>,
}

type Table = HashMap<(Scope, Digest), Flight>;

#[derive(Debug, Default)]
struct Flight {
    /// Repositories that hold the blob.
    present: HashMap<Room, Known>,
    /// What is done for it.
    work: Vec<Arc<Work>>,
    ended: Arc<Notify>,
}

/// What somebody does to bring a blob into a repository.
#[derive(Debug)]
pub(super) struct Work {
    room: Room,
    /// Whether there is nowhere to mount from, and bytes will be sent.
    sends: bool,
    /// Where it is read.
    source: Scope,
    size: u64,
    /// Bytes that the target had before.
    stored: AtomicU64,
    sent: AtomicU64,
    begun: Instant,
}

impl Work {
    /// The bytes behind the first `stored` are sent from now on.
    pub(super) fn restart(&self, stored: u64) {
        self.stored.store(stored, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
    }

    /// So many more bytes are on their way.
    pub(super) fn advance(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether who would read from `source` waits for it.
    fn is_worth_waiting_for(&self, source: &Scope) -> bool {
        let (passed, sent) = (self.begun.elapsed(), self.sent.load(Ordering::Relaxed));
        let there = self.stored.load(Ordering::Relaxed) + sent;
        let left = u128::from(self.size.saturating_sub(there)) * passed.as_millis();
        self.source == *source || passed < LOOK || left <= u128::from(sent) * PATIENCE.as_millis()
    }
}

/// How it is known that a blob is in a repository, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    how: BlobOutcome,
    since: Instant,
}

impl Known {
    /// Whether somebody sent the bytes, at `then` or later: the one proof against a target that says what is not so.
    pub(super) fn was_sent_since(&self, then: Instant) -> bool {
        self.how == BlobOutcome::Copied && self.since >= then
    }
}

/// What [`Flights::claim`] gives.
#[derive(Debug)]
pub(super) enum Claim {
    /// The blob is in the repository.
    Present(Known),
    /// The caller brings it.
    Lead(Lead),
    /// Somebody is at work: claim again when this is over.
    Wait(Waiting),
}

/// Somebody else's work on a blob.
#[derive(Debug)]
pub(super) struct Waiting(OwnedNotified);

impl Waiting {
    /// Waits until it has ended, or until it is time to look how it gets on.
    pub(super) async fn over(self) {
        // Either way the blob is claimed again, which tells what became of it.
        let _ = tokio::time::timeout(LOOK, self.0).await;
    }
}

/// The duty to bring a blob into a repository. Dropping it hands the duty over to one of those who wait.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: (Scope, Digest),
    work: Arc<Work>,
    arrived: Option<BlobOutcome>,
    /// A sibling repository that holds the blob.
    mount_from: Option<RepositoryName>,
}

impl Flights {
    /// Asks for the blob of `source` in a repository. Never waits: who holds one lead must not wait for another, or two could
    /// wait for each other.
    pub(super) fn claim(self: &Arc<Self>, place: &(Scope, Room), blob: &Descriptor, source: &Scope) -> Claim {
        self.claim_in(&mut self.lock(), place, blob, source)
    }

    /// [`Flights::claim`] for several repositories, with nobody else's claim in between.
    pub(super) fn claim_each(
        self: &Arc<Self>,
        places: &[(Scope, Room)],
        blob: &Descriptor,
        source: &Scope,
    ) -> Vec<Claim> {
        let mut table = self.lock();
        places.iter().map(|place| self.claim_in(&mut table, place, blob, source)).collect()
    }

    fn claim_in(
        self: &Arc<Self>,
        table: &mut Table,
        (scope, room): &(Scope, Room),
        blob: &Descriptor,
        source: &Scope,
    ) -> Claim {
        make_room(table);
        let key = (scope.clone(), blob.digest);
        let flight = table.entry(key.clone()).or_default();
        flight.present.retain(|_, known| known.since.elapsed() < BELIEVED_FOR);
        if let Some(known) = flight.present.get(room) {
            return Claim::Present(*known);
        }
        let mount_from = flight.present.keys().find_map(Clone::clone);
        let sends = mount_from.is_none();
        let concerns = |work: &&Arc<Work>| work.room == *room || (sends && work.sends);
        if flight.work.iter().filter(concerns).any(|work| work.is_worth_waiting_for(source)) {
            // Made under the lock, so that no notification is missed.
            return Claim::Wait(Waiting(flight.ended.clone().notified_owned()));
        }
        let (stored, sent, begun) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
        let work =
            Arc::new(Work { room: room.clone(), sends, source: source.clone(), size: blob.size, stored, sent, begun });
        flight.work.push(work.clone());
        Claim::Lead(Lead { flights: self.clone(), key, work, arrived: None, mount_from })
    }

    /// Stops believing that the blob is in the repository.
    pub(super) fn forget(&self, scope: &Scope, room: &Room, digest: Digest) {
        if let Some(flight) = self.lock().get_mut(&(scope.clone(), digest)) {
            flight.present.remove(room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, lead: &Lead) {
        if let Some(flight) = self.lock().get_mut(&lead.key) {
            flight.work.retain(|work| !Arc::ptr_eq(work, &lead.work));
            if let Some(how) = lead.arrived {
                flight.present.insert(lead.work.room.clone(), Known { how, since: Instant::now() });
            }
            flight.ended.notify_waiters();
        }
    }
}

fn make_room(table: &mut Table) {
    if table.len() >= REMEMBERED {
        table.retain(|_, flight| !flight.work.is_empty());
    }
}

impl Lead {
    /// The blob is in the repository.
    pub(super) fn arrived(mut self, how: BlobOutcome) {
        self.arrived = Some(how);
    }
}

/// A lead, and the note at its target that there is work.
#[derive(Debug)]
pub(super) struct Duty {
    lead: Lead,
    _at_work: Option<AtWork>,
}

impl Duty {
    pub(super) fn new(lead: Lead, lane: Option<&Arc<Lane>>) -> Self {
        Self { lead, _at_work: lane.map(Lane::begin) }
    }

    /// A sibling repository that holds the blob.
    pub(super) fn mount_from(&self) -> Option<&RepositoryName> {
        self.lead.mount_from.as_ref()
    }

    /// What those who wait for the blob see of it.
    pub(super) fn work(&self) -> Arc<Work> {
        self.lead.work.clone()
    }

    /// The blob is in the repository.
    pub(super) fn arrived(self, how: BlobOutcome) {
        self.lead.arrived(how);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.end(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn room(name: &str) -> Room {
        Some(name.parse().unwrap())
    }

    fn blob(content: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::new("x"), Digest::of(content), 1000)
    }

    fn claim(flights: &Arc<Flights>, name: &str) -> Claim {
        claim_from(flights, name, "s")
    }

    fn claim_from(flights: &Arc<Flights>, name: &str, source: &str) -> Claim {
        flights.claim(&(Scope::new("h"), room(name)), &blob(b"x"), &Scope::new(source))
    }

    fn lead(flights: &Arc<Flights>, name: &str) -> Lead {
        match claim(flights, name) {
            Claim::Lead(lead) => lead,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn followers_wait_and_then_mount_or_find() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights, "a");
        assert_eq!(first.mount_from, None);
        let Claim::Wait(same) = claim(&flights, "a") else { panic!() };
        let Claim::Wait(other) = claim(&flights, "b") else { panic!() };
        first.arrived(BlobOutcome::Copied);
        same.over().await;
        other.over().await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        assert_eq!(lead(&flights, "b").mount_from, room("a"));
    }

    #[tokio::test]
    async fn a_leader_that_fails_hands_over_to_one_of_those_who_wait() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights, "a");
        let Claim::Wait(waiting) = claim(&flights, "b") else { panic!() };
        drop(first);
        waiting.over().await;
        let second = lead(&flights, "b");
        assert!(matches!(claim(&flights, "a"), Claim::Wait(_)), "the second leader sends now");
        drop(second);
    }

    #[test]
    fn of_two_who_claim_several_registries_at_once_one_gets_them_all() {
        let flights = Arc::new(Flights::default());
        let places = ["h1", "h2", "h3"].map(|host| (Scope::new(host), room("a")));
        let (both, digests) = (std::sync::Barrier::new(2), 0..500u32);
        let claims = || {
            let claim = |at: u32| {
                both.wait();
                flights.claim_each(&places, &blob(&at.to_be_bytes()), &Scope::new("s"))
            };
            digests.clone().map(claim).collect::<Vec<_>>()
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(claims);
            (claims(), other.join().unwrap())
        });
        let leads = |claims: &[Claim]| claims.iter().filter(|claim| matches!(claim, Claim::Lead(_))).count();
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(leads(one).max(leads(other)), 3);
            assert_eq!(leads(one).min(leads(other)), 0);
        }
    }

    #[test]
    fn several_repositories_mount_at_once() {
        let flights = Arc::new(Flights::default());
        lead(&flights, "a").arrived(BlobOutcome::Copied);
        let (b, c) = (lead(&flights, "b"), lead(&flights, "c"));
        assert_eq!((&b.mount_from, &c.mount_from), (&room("a"), &room("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_believed_for_ten_minutes() {
        let flights = Arc::new(Flights::default());
        lead(&flights, "a").arrived(BlobOutcome::Copied);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(lead(&flights, "a").mount_from, None);
    }

    #[test]
    fn what_is_forgotten_is_brought_again() {
        let flights = Arc::new(Flights::default());
        lead(&flights, "a").arrived(BlobOutcome::Copied);
        flights.forget(&Scope::new("h"), &room("a"), Digest::of(b"x"));
        assert_eq!(lead(&flights, "a").mount_from, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_from_elsewhere_waits_for_no_sender_that_would_need_more_than_a_minute() {
        for (sent, is_slow) in [(0, true), (142, true), (143, false), (900, false)] {
            let flights = Arc::new(Flights::default());
            let first = lead(&flights, "a");
            let Claim::Wait(waiting) = claim_from(&flights, "b", "t") else { panic!() };
            first.work.advance(sent);
            let began = Instant::now();
            waiting.over().await;
            assert_eq!(began.elapsed(), LOOK);
            assert!(matches!(claim(&flights, "b"), Claim::Wait(_)), "from there it would be no faster");
            for name in ["b", "a"] {
                let does_not_wait = matches!(claim_from(&flights, name, "t"), Claim::Lead(_));
                assert_eq!(does_not_wait, is_slow, "{sent} of 1000 bytes were sent, and {name} is claimed");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_who_pass_a_slow_sender_one_sends_and_the_slow_one_may_still_arrive() {
        let flights = Arc::new(Flights::default());
        let slow = lead(&flights, "a");
        tokio::time::advance(LOOK).await;
        let Claim::Lead(second) = claim_from(&flights, "b", "t") else { panic!() };
        assert!(matches!(claim_from(&flights, "c", "t"), Claim::Wait(_)));
        assert!(matches!(claim_from(&flights, "c", "u"), Claim::Wait(_)));
        second.arrived(BlobOutcome::Copied);
        assert_eq!(lead(&flights, "c").mount_from, room("b"));
        assert!(matches!(claim(&flights, "a"), Claim::Wait(_)), "it is at work there");
        slow.arrived(BlobOutcome::Copied);
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
    }
}
