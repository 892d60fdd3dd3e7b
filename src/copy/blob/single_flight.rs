//! Single flight: while one transfer sends a blob to a registry, other transfers of the same blob to this registry
//! wait. After the wait, these transfers find or mount the blob. If the transfer that sends the blob is slow, transfers
//! from other sources do not wait. So a slow source does not delay copies from other sources.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::stragglers::{ProgressTracker, TransferGuard};
use crate::copy::event::BlobOutcome;
use crate::oci::{Descriptor, Digest, RepositoryName};
use crate::store::Scope;

/// Duration for which transship trusts its record that a repository has a blob. During this time, a copy sends no
/// request to check the blob. If the registry deletes the blob during this time, the registry rejects the manifest, and
/// the copy sends the blob again.
const TRUSTED_FOR: Duration = Duration::from_secs(600);

/// Maximum number of blobs in the table. At about 200 bytes per blob, the table uses at most about 13 MiB.
const MAX_BLOBS: usize = 65_536;

/// Interval at which a waiter checks the progress of the other transfer.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Limit for the remaining time of a sender. The waiter estimates the remaining time from the sender's progress. If the
/// remaining time is longer, a transfer whose source is not the sender's source does not wait for the sender.
const MAX_REMAINING: Duration = Duration::from_secs(60);

/// Repository within a scope. `None` for a layout, which is a single repository without a name.
pub(crate) type RepositoryScope = Option<RepositoryName>;

/// Transfers in progress and blobs known to be present, for the whole process.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    table: Mutex<Table>,
}

type Table = HashMap<(Scope, Digest), Flight>;

#[derive(Debug, Default)]
struct Flight {
    present: HashMap<RepositoryScope, PresentBlob>,
    running: Vec<Arc<FlightProgress>>,
    ended: Arc<Notify>,
}

/// Progress of one transfer of a blob into a repository.
#[derive(Debug)]
pub(crate) struct FlightProgress {
    repository: RepositoryScope,
    /// True if the transfer sends bytes. False if the transfer mounts the blob from another repository of the scope.
    sends: bool,
    /// Scope from which the blob is read.
    source: Scope,
    size: u64,
    /// Number of bytes that the target had before the transfer.
    stored: AtomicU64,
    sent: AtomicU64,
    started: Instant,
}

impl FlightProgress {
    /// Sets the number of sent bytes to 0. The transfer now sends the bytes from position `stored` on.
    pub(crate) fn restart(&self, stored: u64) {
        self.stored.store(stored, Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns true if a transfer of the same blob from `source` must wait for this transfer.
    fn is_worth_waiting_for(&self, source: &Scope) -> bool {
        let (elapsed, sent) = (self.started.elapsed(), self.sent.load(Ordering::Relaxed));
        let position = self.stored.load(Ordering::Relaxed) + sent;
        let bytes_left = self.size.saturating_sub(position);
        // The remaining time is `bytes_left * elapsed / sent`. `sent` can be 0, so the comparison
        // multiplies both sides by `sent` instead of dividing.
        let is_quick = u128::from(bytes_left) * elapsed.as_millis() <= u128::from(sent) * MAX_REMAINING.as_millis();
        self.source == *source || elapsed < CHECK_INTERVAL || is_quick
    }
}

/// Record that a blob is in a repository, with the time of the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentBlob {
    outcome: BlobOutcome,
    since: Instant,
}

impl PresentBlob {
    /// Returns true if a transfer sent the bytes of the blob and ended at `then` or later. Only such a transfer proves
    /// that the target has the blob: some targets report blobs that they do not have.
    pub(crate) fn was_sent_since(&self, then: Instant) -> bool {
        self.outcome == BlobOutcome::Copied && self.since >= then
    }
}

#[derive(Debug)]
pub(crate) enum Claim {
    /// The blob is in the repository.
    Present(PresentBlob),
    /// The caller owns the transfer of the blob.
    Owned(Ownership),
    /// Another transfer of the blob is in progress. The caller must wait until this transfer ends, and then claim the
    /// blob again.
    Wait(Waiting),
}

/// Pending notification that another transfer of the blob has ended.
#[derive(Debug)]
pub(crate) struct Waiting(OwnedNotified);

impl Waiting {
    /// Waits until the other transfer has ended, but at most 10 seconds ([`CHECK_INTERVAL`]).
    pub(crate) async fn wait(self) {
        // In both cases, notification or timeout, the caller claims the blob again.
        let _ = tokio::time::timeout(CHECK_INTERVAL, self.0).await;
    }
}

/// Ownership of the transfer of a blob into a repository. If the value is dropped before the blob is in the repository,
/// one of the waiters becomes the owner.
#[derive(Debug)]
pub(crate) struct Ownership {
    flights: Arc<Flights>,
    key: (Scope, Digest),
    progress: Arc<FlightProgress>,
    arrived: Option<BlobOutcome>,
    /// Repository of the same registry that contains the blob. The owner can mount the blob from this repository.
    mount_from: Option<RepositoryName>,
}

impl Flights {
    /// Claims the transfer of a blob from `source` to a repository. The function never waits. If a caller that owns
    /// other transfers waited here, two callers could wait for each other.
    pub(crate) fn claim(
        self: &Arc<Self>,
        place: &(Scope, RepositoryScope),
        blob: &Descriptor,
        source: &Scope,
    ) -> Claim {
        self.claim_in(&mut self.lock(), place, blob, source)
    }

    /// Claims the transfers of a blob to several repositories under one lock. The result of each claim is the same as
    /// from [`Flights::claim`]. No other task can claim the blob between these claims.
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
        (scope, repository): &(Scope, RepositoryScope),
        blob: &Descriptor,
        source: &Scope,
    ) -> Claim {
        evict_idle(table);
        let key = (scope.clone(), blob.digest);
        let flight = table.entry(key.clone()).or_default();
        flight.present.retain(|_, record| record.since.elapsed() < TRUSTED_FOR);
        if let Some(record) = flight.present.get(repository) {
            return Claim::Present(*record);
        }
        let mount_from = flight.present.keys().find_map(Clone::clone);
        let sends = mount_from.is_none();
        let conflicts = |other: &&Arc<FlightProgress>| other.repository == *repository || (sends && other.sends);
        if flight.running.iter().filter(conflicts).any(|other| other.is_worth_waiting_for(source)) {
            // The table is locked, so no transfer can end before this future exists.
            return Claim::Wait(Waiting(flight.ended.clone().notified_owned()));
        }
        let (stored, sent, started) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
        let progress = Arc::new(FlightProgress {
            repository: repository.clone(),
            sends,
            source: source.clone(),
            size: blob.size,
            stored,
            sent,
            started,
        });
        flight.running.push(progress.clone());
        Claim::Owned(Ownership { flights: self.clone(), key, progress, arrived: None, mount_from })
    }

    /// Deletes the record that the blob is in the repository.
    pub(crate) fn forget(&self, scope: &Scope, repository: &RepositoryScope, digest: Digest) {
        if let Some(flight) = self.lock().get_mut(&(scope.clone(), digest)) {
            flight.present.remove(repository);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    fn end(&self, ownership: &Ownership) {
        if let Some(flight) = self.lock().get_mut(&ownership.key) {
            flight.running.retain(|progress| !Arc::ptr_eq(progress, &ownership.progress));
            if let Some(outcome) = ownership.arrived {
                flight
                    .present
                    .insert(ownership.progress.repository.clone(), PresentBlob { outcome, since: Instant::now() });
            }
            flight.ended.notify_waiters();
        }
    }
}

fn evict_idle(table: &mut Table) {
    if table.len() >= MAX_BLOBS {
        table.retain(|_, flight| !flight.running.is_empty());
    }
}

impl Ownership {
    /// Records that the blob is in the repository, and ends the ownership.
    pub(crate) fn record_arrival(mut self, outcome: BlobOutcome) {
        self.arrived = Some(outcome);
    }
}

/// Ownership of a transfer, together with the guard that counts the transfer in the progress tracker of its target.
#[derive(Debug)]
pub(crate) struct Owner {
    ownership: Ownership,
    _transfer: Option<TransferGuard>,
}

impl Owner {
    pub(crate) fn new(ownership: Ownership, tracker: Option<&Arc<ProgressTracker>>) -> Self {
        Self { ownership, _transfer: tracker.map(ProgressTracker::start_transfer) }
    }

    pub(crate) fn mount_from(&self) -> Option<&RepositoryName> {
        self.ownership.mount_from.as_ref()
    }

    /// Returns the progress of the transfer. The waiters for the blob observe this progress.
    pub(crate) fn progress(&self) -> Arc<FlightProgress> {
        self.ownership.progress.clone()
    }

    pub(crate) fn record_arrival(self, outcome: BlobOutcome) {
        self.ownership.record_arrival(outcome);
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

    fn repository(name: &str) -> RepositoryScope {
        Some(name.parse().unwrap())
    }

    fn blob(content: &[u8]) -> Descriptor {
        Descriptor::new(MediaType::new("x"), Digest::of(content), 1000)
    }

    fn claim(flights: &Arc<Flights>, name: &str) -> Claim {
        claim_from(flights, name, "s")
    }

    fn claim_from(flights: &Arc<Flights>, name: &str, source: &str) -> Claim {
        flights.claim(&(Scope::new("h"), repository(name)), &blob(b"x"), &Scope::new(source))
    }

    fn claim_ownership(flights: &Arc<Flights>, name: &str) -> Ownership {
        match claim(flights, name) {
            Claim::Owned(ownership) => ownership,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn waiters_mount_or_find_after_owner_ends() {
        let flights = Arc::new(Flights::default());
        let first = claim_ownership(&flights, "a");
        assert_eq!(first.mount_from, None);
        let Claim::Wait(same) = claim(&flights, "a") else { panic!() };
        let Claim::Wait(other) = claim(&flights, "b") else { panic!() };
        first.record_arrival(BlobOutcome::Copied);
        same.wait().await;
        other.wait().await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        assert_eq!(claim_ownership(&flights, "b").mount_from, repository("a"));
    }

    #[tokio::test]
    async fn dropped_owner_hands_over_to_one_waiter() {
        let flights = Arc::new(Flights::default());
        let first = claim_ownership(&flights, "a");
        let Claim::Wait(waiting) = claim(&flights, "b") else { panic!() };
        drop(first);
        waiting.wait().await;
        let second = claim_ownership(&flights, "b");
        assert!(matches!(claim(&flights, "a"), Claim::Wait(_)), "the second owner sends now");
        drop(second);
    }

    #[test]
    fn concurrent_claims_of_several_registries_go_to_one_caller() {
        let flights = Arc::new(Flights::default());
        let places = ["h1", "h2", "h3"].map(|host| (Scope::new(host), repository("a")));
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
        let count_owned = |claims: &[Claim]| claims.iter().filter(|claim| matches!(claim, Claim::Owned(_))).count();
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(count_owned(one).max(count_owned(other)), 3);
            assert_eq!(count_owned(one).min(count_owned(other)), 0);
        }
    }

    #[test]
    fn several_repositories_mount_concurrently() {
        let flights = Arc::new(Flights::default());
        claim_ownership(&flights, "a").record_arrival(BlobOutcome::Copied);
        let (b, c) = (claim_ownership(&flights, "b"), claim_ownership(&flights, "c"));
        assert_eq!((&b.mount_from, &c.mount_from), (&repository("a"), &repository("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn known_blob_is_trusted_for_ten_minutes() {
        let flights = Arc::new(Flights::default());
        claim_ownership(&flights, "a").record_arrival(BlobOutcome::Copied);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(claim_ownership(&flights, "a").mount_from, None);
    }

    #[test]
    fn forgotten_blob_is_transferred_again() {
        let flights = Arc::new(Flights::default());
        claim_ownership(&flights, "a").record_arrival(BlobOutcome::Copied);
        flights.forget(&Scope::new("h"), &repository("a"), Digest::of(b"x"));
        assert_eq!(claim_ownership(&flights, "a").mount_from, None);
    }

    #[tokio::test(start_paused = true)]
    async fn reader_of_other_source_passes_sender_needing_over_a_minute() {
        for (sent, is_slow) in [(0, true), (142, true), (143, false), (900, false)] {
            let flights = Arc::new(Flights::default());
            let first = claim_ownership(&flights, "a");
            let Claim::Wait(waiting) = claim_from(&flights, "b", "t") else { panic!() };
            first.progress.advance(sent);
            let started = Instant::now();
            waiting.wait().await;
            assert_eq!(started.elapsed(), CHECK_INTERVAL);
            assert!(matches!(claim(&flights, "b"), Claim::Wait(_)), "a read from the same source would not be faster");
            for name in ["b", "a"] {
                let does_not_wait = matches!(claim_from(&flights, name, "t"), Claim::Owned(_));
                assert_eq!(does_not_wait, is_slow, "{sent} of 1000 bytes were sent, and {name} is claimed");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_passes_slow_sender_which_may_still_arrive() {
        let flights = Arc::new(Flights::default());
        let slow = claim_ownership(&flights, "a");
        tokio::time::advance(CHECK_INTERVAL).await;
        let Claim::Owned(second) = claim_from(&flights, "b", "t") else { panic!() };
        assert!(matches!(claim_from(&flights, "c", "t"), Claim::Wait(_)));
        assert!(matches!(claim_from(&flights, "c", "u"), Claim::Wait(_)));
        second.record_arrival(BlobOutcome::Copied);
        assert_eq!(claim_ownership(&flights, "c").mount_from, repository("b"));
        assert!(
            matches!(claim(&flights, "a"), Claim::Wait(_)),
            "the slow transfer to this repository is still in progress"
        );
        slow.record_arrival(BlobOutcome::Copied);
        assert!(matches!(claim(&flights, "a"), Claim::Present(_)));
    }
}
