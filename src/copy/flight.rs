//! Single flight: at one time one blob is sent to one registry by one sender only. Everyone else waits, and then
//! finds or mounts it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::event::BlobOutcome;
use super::lane::{AtWork, Lane};
use crate::oci::{Digest, RepositoryName};
use crate::store::Scope;

/// How long "this blob is in that repository" is believed without asking. The target's own garbage collection may
/// prove it wrong at any time; the manifest's PUT tells, and the blob is sent again.
const BELIEVED_FOR: Duration = Duration::from_secs(600);

/// How many blobs are remembered. At about 200 bytes each this is some 13 MiB at most.
const REMEMBERED: usize = 65_536;

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
    /// Repositories for which somebody is at work.
    working: HashSet<Room>,
    /// Whether one of them has nowhere to mount from and will send bytes.
    sending: bool,
    ended: Arc<Notify>,
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
    Wait(OwnedNotified),
}

/// The duty to bring a blob into a repository. Dropping it hands the duty over to one of those who wait.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: (Scope, Digest),
    room: Room,
    sends: bool,
    arrived: Option<BlobOutcome>,
    /// A sibling repository that holds the blob.
    mount_from: Option<RepositoryName>,
}

impl Flights {
    /// Asks for the blob in a repository. Never waits: who holds one lead must not wait for another, or two could
    /// wait for each other.
    pub(super) fn claim(self: &Arc<Self>, scope: &Scope, room: &Room, digest: Digest) -> Claim {
        self.claim_in(&mut self.lock(), scope, room, digest)
    }

    /// [`Flights::claim`] for several repositories, with nobody else's claim in between.
    pub(super) fn claim_each(self: &Arc<Self>, places: &[(Scope, Room)], digest: Digest) -> Vec<Claim> {
        let mut table = self.lock();
        places.iter().map(|(scope, room)| self.claim_in(&mut table, scope, room, digest)).collect()
    }

    fn claim_in(self: &Arc<Self>, table: &mut Table, scope: &Scope, room: &Room, digest: Digest) -> Claim {
        make_room(table);
        let flight = table.entry((scope.clone(), digest)).or_default();
        flight.present.retain(|_, known| known.since.elapsed() < BELIEVED_FOR);
        if let Some(known) = flight.present.get(room) {
            return Claim::Present(*known);
        }
        let mount_from = flight.present.keys().find_map(Clone::clone);
        if flight.working.contains(room) || (mount_from.is_none() && flight.sending) {
            // Made under the lock, so that no notification is missed.
            return Claim::Wait(flight.ended.clone().notified_owned());
        }
        let sends = mount_from.is_none();
        flight.working.insert(room.clone());
        flight.sending |= sends;
        let key = (scope.clone(), digest);
        Claim::Lead(Lead { flights: self.clone(), key, room: room.clone(), sends, arrived: None, mount_from })
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
            flight.working.remove(&lead.room);
            if lead.sends {
                flight.sending = false;
            }
            if let Some(how) = lead.arrived {
                flight.present.insert(lead.room.clone(), Known { how, since: Instant::now() });
            }
            flight.ended.notify_waiters();
        }
    }
}

fn make_room(table: &mut Table) {
    if table.len() >= REMEMBERED {
        table.retain(|_, flight| !flight.working.is_empty());
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

    fn room(name: &str) -> Room {
        Some(name.parse().unwrap())
    }

    fn claim(flights: &Arc<Flights>, name: &str) -> Claim {
        flights.claim(&Scope::new("h"), &room(name), Digest::of(b"x"))
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
        same.await;
        other.await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        assert_eq!(lead(&flights, "b").mount_from, room("a"));
    }

    #[tokio::test]
    async fn a_leader_that_fails_hands_over_to_one_of_those_who_wait() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights, "a");
        let Claim::Wait(waiting) = claim(&flights, "b") else { panic!() };
        drop(first);
        waiting.await;
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
                flights.claim_each(&places, Digest::of(&at.to_be_bytes()))
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
}
