//! Single flight: only one transfer at a time sends a blob to a registry. The others wait, and then find or mount the
//! blob. A transfer that reads from another source does not wait for a slow sender: a slow registry must not delay
//! transfers that have nothing to do with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::stragglers::{AtWork, Lane};
use crate::copy::event::BlobOutcome;
use crate::oci::{Descriptor, Digest, RepositoryName};
use crate::store::Scope;

/// Time for which a repository is trusted to have a blob without a request. The target's garbage collection may delete
/// the blob at any time. Then the PUT of the manifest reports the missing blob, and the blob is sent again.
const TRUSTED_FOR: Duration = Duration::from_secs(600);

/// Maximum number of blobs that are remembered. At about 200 bytes each, these use at most about 13 MiB.
const REMEMBERED: usize = 65_536;

/// Interval at which a waiter checks the progress of the transfer that it waits for.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum remaining time of a sender, estimated from its progress, for which transfers wait that could read from
/// another source.
const MAX_REMAINING: Duration = Duration::from_secs(60);

/// Repository of a scope. A layout has just one, without a name.
pub(crate) type RepositoryScope = Option<RepositoryName>;

/// Transfers of the whole process.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    table: Mutex<Table>,
}

type Table = HashMap<(Scope, Digest), Flight>;

#[derive(Debug, Default)]
struct Flight {
    /// Repositories that hold the blob.
    present: HashMap<RepositoryScope, PresentBlob>,
    /// Transfers of the blob in progress.
    work: Vec<Arc<Work>>,
    ended: Arc<Notify>,
}

/// Progress of one transfer of a blob into a repository.
#[derive(Debug)]
pub(crate) struct Work {
    room: RepositoryScope,
    /// True if there is no repository to mount from, so that bytes will be sent.
    sends: bool,
    /// Scope from which the blob is read.
    source: Scope,
    size: u64,
    /// Bytes that the target had before.
    stored: AtomicU64,
    sent: AtomicU64,
    begun: Instant,
}

impl Work {
    /// Restarts the count: the transfer now sends the bytes after the first `stored`.
    pub(crate) fn restart(&self, stored: u64) {
        self.stored.store(stored, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
    }

    /// Adds bytes that are being sent.
    pub(crate) fn advance(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns true if a transfer that would read from `source` waits for this one.
    fn is_worth_waiting_for(&self, source: &Scope) -> bool {
        let (passed, sent) = (self.begun.elapsed(), self.sent.load(Ordering::Relaxed));
        let there = self.stored.load(Ordering::Relaxed) + sent;
        let left = u128::from(self.size.saturating_sub(there)) * passed.as_millis();
        self.source == *source || passed < CHECK_INTERVAL || left <= u128::from(sent) * MAX_REMAINING.as_millis()
    }
}

/// Proof that a blob is in a repository, and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentBlob {
    how: BlobOutcome,
    since: Instant,
}

impl PresentBlob {
    /// Returns true if the bytes were sent at `then` or later. If a target's answers are wrong, only this is proof.
    pub(crate) fn was_sent_since(&self, then: Instant) -> bool {
        self.how == BlobOutcome::Copied && self.since >= then
    }
}

/// Result of [`Flights::claim`].
#[derive(Debug)]
pub(crate) enum Claim {
    /// The blob is in the repository.
    Present(PresentBlob),
    /// The caller must transfer the blob.
    Lead(Ownership),
    /// Another transfer is in progress. Claim again when it has ended.
    Wait(Waiting),
}

/// Wait for another transfer of the blob.
#[derive(Debug)]
pub(crate) struct Waiting(OwnedNotified);

impl Waiting {
    /// Waits until that transfer has ended, or until its progress must be checked.
    pub(crate) async fn wait(self) {
        // In both cases the caller claims the blob again and gets the result.
        let _ = tokio::time::timeout(CHECK_INTERVAL, self.0).await;
    }
}

/// Duty to transfer a blob into a repository. Dropping it passes the duty to one of the waiters.
#[derive(Debug)]
pub(crate) struct Ownership {
    flights: Arc<Flights>,
    key: (Scope, Digest),
    work: Arc<Work>,
    arrived: Option<BlobOutcome>,
    /// Sibling repository that holds the blob.
    mount_from: Option<RepositoryName>,
}

impl Flights {
    /// Claims the blob of `source` for a repository. Never waits: the owner of one claim must not wait for another, or
    /// two owners could wait for each other.
    pub(crate) fn claim(
        self: &Arc<Self>,
        place: &(Scope, RepositoryScope),
        blob: &Descriptor,
        source: &Scope,
    ) -> Claim {
        self.claim_in(&mut self.lock(), place, blob, source)
    }

    /// Does the same as [`Flights::claim`] for several repositories at once. No other claim comes in between.
    pub(crate) fn claim_each(
        self: &Arc<Self>,
        places: &[(Scope, RepositoryScope)],
        blob: &Descriptor,
        source: &Scope,
    ) -> Vec<Claim> {
        let mut table = self.lock();
        places.iter().map(|place| self.claim_in(&mut table, place, blob, source)).collect()
    }

    fn claim_in(
        self: &Arc<Self>,
        table: &mut Table,
        (scope, room): &(Scope, RepositoryScope),
        blob: &Descriptor,
        source: &Scope,
    ) -> Claim {
        evict_idle(table);
        let key = (scope.clone(), blob.digest);
        let flight = table.entry(key.clone()).or_default();
        flight.present.retain(|_, known| known.since.elapsed() < TRUSTED_FOR);
        if let Some(known) = flight.present.get(room) {
            return Claim::Present(*known);
        }
        let mount_from = flight.present.keys().find_map(Clone::clone);
        let sends = mount_from.is_none();
        let concerns = |work: &&Arc<Work>| work.room == *room || (sends && work.sends);
        if flight.work.iter().filter(concerns).any(|work| work.is_worth_waiting_for(source)) {
            // The future is created under the lock, so that no notification is missed.
            return Claim::Wait(Waiting(flight.ended.clone().notified_owned()));
        }
        let (stored, sent, begun) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
        let work =
            Arc::new(Work { room: room.clone(), sends, source: source.clone(), size: blob.size, stored, sent, begun });
        flight.work.push(work.clone());
        Claim::Lead(Ownership { flights: self.clone(), key, work, arrived: None, mount_from })
    }

    /// Deletes the record that the blob is in the repository.
    pub(crate) fn forget(&self, scope: &Scope, room: &RepositoryScope, digest: Digest) {
        if let Some(flight) = self.lock().get_mut(&(scope.clone(), digest)) {
            flight.present.remove(room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    fn end(&self, lead: &Ownership) {
        if let Some(flight) = self.lock().get_mut(&lead.key) {
            flight.work.retain(|work| !Arc::ptr_eq(work, &lead.work));
            if let Some(how) = lead.arrived {
                flight.present.insert(lead.work.room.clone(), PresentBlob { how, since: Instant::now() });
            }
            flight.ended.notify_waiters();
        }
    }
}

fn evict_idle(table: &mut Table) {
    if table.len() >= REMEMBERED {
        table.retain(|_, flight| !flight.work.is_empty());
    }
}

impl Ownership {
    /// Records that the blob is in the repository, and ends the duty.
    pub(crate) fn record_arrival(mut self, how: BlobOutcome) {
        self.arrived = Some(how);
    }
}

/// Claim of a blob, together with the mark at its target's lane that a transfer is in progress.
#[derive(Debug)]
pub(crate) struct Owner {
    lead: Ownership,
    _at_work: Option<AtWork>,
}

impl Owner {
    pub(crate) fn new(lead: Ownership, lane: Option<&Arc<Lane>>) -> Self {
        Self { lead, _at_work: lane.map(Lane::begin) }
    }

    /// Returns a sibling repository that holds the blob.
    pub(crate) fn mount_from(&self) -> Option<&RepositoryName> {
        self.lead.mount_from.as_ref()
    }

    /// Returns the progress that the waiters for the blob observe.
    pub(crate) fn work(&self) -> Arc<Work> {
        self.lead.work.clone()
    }

    /// Records that the blob is in the repository, and ends the duty.
    pub(crate) fn record_arrival(self, how: BlobOutcome) {
        self.lead.record_arrival(how);
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.flights.end(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn room(name: &str) -> RepositoryScope {
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

    fn lead(flights: &Arc<Flights>, name: &str) -> Ownership {
        match claim(flights, name) {
            Claim::Lead(lead) => lead,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn waiters_mount_or_find_after_owner_ends() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights, "a");
        assert_eq!(first.mount_from, None);
        let Claim::Wait(same) = claim(&flights, "a") else { panic!() };
        let Claim::Wait(other) = claim(&flights, "b") else { panic!() };
        first.record_arrival(BlobOutcome::Copied);
        same.wait().await;
        other.wait().await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        assert_eq!(lead(&flights, "b").mount_from, room("a"));
    }

    #[tokio::test]
    async fn dropped_owner_hands_over_to_one_waiter() {
        let flights = Arc::new(Flights::default());
        let first = lead(&flights, "a");
        let Claim::Wait(waiting) = claim(&flights, "b") else { panic!() };
        drop(first);
        waiting.wait().await;
        let second = lead(&flights, "b");
        assert!(matches!(claim(&flights, "a"), Claim::Wait(_)), "the second leader sends now");
        drop(second);
    }

    #[test]
    fn concurrent_claims_of_several_registries_go_to_one_caller() {
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
    fn several_repositories_mount_concurrently() {
        let flights = Arc::new(Flights::default());
        lead(&flights, "a").record_arrival(BlobOutcome::Copied);
        let (b, c) = (lead(&flights, "b"), lead(&flights, "c"));
        assert_eq!((&b.mount_from, &c.mount_from), (&room("a"), &room("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn known_blob_is_trusted_for_ten_minutes() {
        let flights = Arc::new(Flights::default());
        lead(&flights, "a").record_arrival(BlobOutcome::Copied);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(lead(&flights, "a").mount_from, None);
    }

    #[test]
    fn forgotten_blob_is_transferred_again() {
        let flights = Arc::new(Flights::default());
        lead(&flights, "a").record_arrival(BlobOutcome::Copied);
        flights.forget(&Scope::new("h"), &room("a"), Digest::of(b"x"));
        assert_eq!(lead(&flights, "a").mount_from, None);
    }

    #[tokio::test(start_paused = true)]
    async fn reader_of_other_source_passes_sender_needing_over_a_minute() {
        for (sent, is_slow) in [(0, true), (142, true), (143, false), (900, false)] {
            let flights = Arc::new(Flights::default());
            let first = lead(&flights, "a");
            let Claim::Wait(waiting) = claim_from(&flights, "b", "t") else { panic!() };
            first.work.advance(sent);
            let began = Instant::now();
            waiting.wait().await;
            assert_eq!(began.elapsed(), CHECK_INTERVAL);
            assert!(matches!(claim(&flights, "b"), Claim::Wait(_)), "from there it would be no faster");
            for name in ["b", "a"] {
                let does_not_wait = matches!(claim_from(&flights, name, "t"), Claim::Lead(_));
                assert_eq!(does_not_wait, is_slow, "{sent} of 1000 bytes were sent, and {name} is claimed");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_passes_slow_sender_which_may_still_arrive() {
        let flights = Arc::new(Flights::default());
        let slow = lead(&flights, "a");
        tokio::time::advance(CHECK_INTERVAL).await;
        let Claim::Lead(second) = claim_from(&flights, "b", "t") else { panic!() };
        assert!(matches!(claim_from(&flights, "c", "t"), Claim::Wait(_)));
        assert!(matches!(claim_from(&flights, "c", "u"), Claim::Wait(_)));
        second.record_arrival(BlobOutcome::Copied);
        assert_eq!(lead(&flights, "c").mount_from, room("b"));
        assert!(matches!(claim(&flights, "a"), Claim::Wait(_)), "it is at work there");
        slow.record_arrival(BlobOutcome::Copied);
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
    }
}
