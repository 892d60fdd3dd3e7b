//! Targets that are slower than their siblings. They go their own way, so that nobody waits for them, and narrowly: their
//! reads take places at the source, and memory, that the others need too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::Scope;

/// How many large blobs a target that goes its own way reads at a time.
const OWN_READS: usize = 4;

/// A blob up to this size is read at once, however slowly it is sent, so its read takes no place from others.
const SMALL: u64 = 128 * 1024;

/// The lanes of all targets that have siblings, for the whole process.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<Scope, Arc<Lane>>>);

impl Lanes {
    /// The lane of one registry or layout. There are as many as the configuration names.
    pub(super) fn of(&self, scope: Scope) -> Arc<Lane> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(scope.clone())
            .or_insert_with(|| Arc::new(Lane::new(scope)))
            .clone()
    }
}

/// Whether a target keeps up with its siblings.
#[derive(Debug)]
pub(super) struct Lane {
    scope: Scope,
    behind: AtomicBool,
    at_work: AtomicUsize,
    /// How many blobs it is done with.
    done: AtomicU64,
    own_reads: Arc<Semaphore>,
}

/// A blob that is being brought to the lane's target.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Lane>);

/// The right to a read of one's own.
#[derive(Debug)]
pub(super) struct OwnRead {
    _place: Option<OwnedSemaphorePermit>,
}

impl Lane {
    fn new(scope: Scope) -> Self {
        let own_reads = Arc::new(Semaphore::new(OWN_READS));
        Self { scope, behind: AtomicBool::new(false), at_work: AtomicUsize::new(0), done: AtomicU64::new(0), own_reads }
    }

    /// Notes that its siblings have waited long enough for it, and for what.
    pub(super) fn fall_behind(&self, why: &str) {
        if !self.behind.swap(true, Ordering::Relaxed) {
            tracing::debug!(registry = %self.scope, why, "slower than its siblings: goes its own way until it has caught up");
        }
    }

    /// Whether it goes its own way: from when it fell behind until it has nothing left to bring.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Notes that a blob is being brought, until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self.clone())
    }

    /// Waits for a read of one's own of `size` bytes.
    pub(super) async fn own_read(&self, size: u64) -> OwnRead {
        if size <= SMALL {
            return OwnRead { _place: None };
        }
        let place = self.own_reads.clone().acquire_owned().await;
        OwnRead { _place: Some(place.expect("the semaphore is never closed")) }
    }

    /// The same if it can be had at once.
    pub(super) fn try_own_read(&self, size: u64) -> Option<OwnRead> {
        if size <= SMALL {
            return Some(OwnRead { _place: None });
        }
        self.own_reads.clone().try_acquire_owned().ok().map(|place| OwnRead { _place: Some(place) })
    }
}

/// How much each of some targets gets done from a moment on.
#[derive(Debug)]
pub(super) struct Race(Vec<(Arc<Lane>, u64)>);

impl Race {
    /// Of these targets, from now on.
    pub(super) fn of<'a>(lanes: impl Iterator<Item = &'a Arc<Lane>>) -> Self {
        Self(lanes.map(|lane| (lane.clone(), lane.done.load(Ordering::Relaxed))).collect())
    }

    /// From now on.
    pub(super) fn start(&mut self) {
        *self = Self::of(self.0.iter().map(|(lane, _)| lane));
    }

    /// Whether a target has done nothing, or less than half of what another has.
    pub(super) fn is_lost_by(&self, lane: &Arc<Lane>) -> bool {
        let done = |(lane, before): &(Arc<Lane>, u64)| lane.done.load(Ordering::Relaxed) - before;
        let own = self.0.iter().find(|(other, _)| Arc::ptr_eq(other, lane)).map_or(0, done);
        own == 0 || own * 2 < self.0.iter().map(done).max().unwrap_or(0)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
        if self.0.at_work.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.behind.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_target_is_behind_until_nothing_is_left_to_bring() {
        let lanes = Lanes::default();
        let lane = lanes.of(Scope::new("a"));
        let (first, second) = (lane.begin(), lane.begin());
        lane.fall_behind("test");
        drop(first);
        assert!(lanes.of(Scope::new("a")).is_behind());
        assert!(!lanes.of(Scope::new("b")).is_behind());
        drop(second);
        assert!(!lane.is_behind());
    }

    #[test]
    fn a_target_that_gets_half_as_much_done_keeps_up() {
        let lanes = Lanes::default();
        let (quick, slow) = (lanes.of(Scope::new("a")), lanes.of(Scope::new("b")));
        let mut race = Race::of([&quick, &slow].into_iter());
        let work = |lane: &Arc<Lane>, times| (0..times).for_each(|_| drop(lane.begin()));
        work(&quick, 4);
        assert!(race.is_lost_by(&slow), "it has done nothing");
        work(&slow, 1);
        assert!(race.is_lost_by(&slow));
        work(&slow, 1);
        assert!(!race.is_lost_by(&slow) && !race.is_lost_by(&quick));
        race.start();
        assert!(race.is_lost_by(&slow));
    }

    #[test]
    fn own_reads_of_large_blobs_are_few() {
        let lane = Lane::new(Scope::new("a"));
        let read = || lane.own_read(SMALL + 1).now_or_never();
        let held = [read(), read(), read(), read()];
        assert!(held.iter().all(Option::is_some));
        assert!(read().is_none() && lane.try_own_read(SMALL + 1).is_none());
        assert!(lane.own_read(SMALL).now_or_never().is_some());
        drop(held);
        assert!(lane.try_own_read(SMALL + 1).is_some());
    }
}
