//! Lanes of targets. A target that is slower than its siblings reads separately, so that no sibling waits for it. The
//! number of separate reads is limited, because they need memory and slots at the source that the siblings need too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::Scope;

/// Number of large blobs that a target that reads separately reads at the same time.
const OWN_READS: usize = 4;

/// Maximum size, in bytes, of a blob that is read at once, even if it is sent slowly. The read of such a blob takes no
/// slot from others.
const SMALL: u64 = 128 * 1024;

/// Lanes of all targets that have siblings, for the whole process.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<HashMap<Scope, Arc<Lane>>>);

impl Lanes {
    /// Returns the lane of one registry or layout. There are as many lanes as the configuration names scopes.
    pub(crate) fn lane_for(&self, scope: Scope) -> Arc<Lane> {
        self.0.lock().entry(scope.clone()).or_insert_with(|| Arc::new(Lane::new(scope))).clone()
    }
}

/// Lane of a target: it records if the target keeps up with its siblings.
#[derive(Debug)]
pub(crate) struct Lane {
    scope: Scope,
    behind: AtomicBool,
    at_work: AtomicUsize,
    /// Number of blobs whose transfer to the target has ended.
    done: AtomicU64,
    own_reads: Arc<Semaphore>,
}

/// Mark that a blob is being transferred to the lane's target.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Lane>);

/// Permission for a separate read.
#[derive(Debug)]
pub(crate) struct OwnRead {
    _place: Option<OwnedSemaphorePermit>,
}

impl Lane {
    fn new(scope: Scope) -> Self {
        let own_reads = Arc::new(Semaphore::new(OWN_READS));
        Self { scope, behind: AtomicBool::new(false), at_work: AtomicUsize::new(0), done: AtomicU64::new(0), own_reads }
    }

    /// Marks the target as slower than its siblings, after they have waited long enough for it. `why` is the step for
    /// which they waited.
    pub(crate) fn mark_behind(&self, why: &str) {
        if !self.behind.swap(true, Ordering::Relaxed) {
            let registry = &self.scope;
            tracing::debug!(%registry, why, "slower than its siblings: reads separately until it catches up");
        }
    }

    /// Returns true if the target reads separately: from when it fell behind until none of its blobs is in transfer.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Marks a blob as being transferred, until the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self.clone())
    }

    /// Waits for permission to read `size` bytes separately.
    pub(crate) async fn own_read(&self, size: u64) -> OwnRead {
        if size <= SMALL {
            return OwnRead { _place: None };
        }
        let place = self.own_reads.clone().acquire_owned().await;
        OwnRead { _place: Some(place.expect("the semaphore is never closed")) }
    }

    /// Returns the same permission if it is available at once.
    pub(crate) fn try_own_read(&self, size: u64) -> Option<OwnRead> {
        if size <= SMALL {
            return Some(OwnRead { _place: None });
        }
        self.own_reads.clone().try_acquire_owned().ok().map(|place| OwnRead { _place: Some(place) })
    }
}

/// Comparison of the progress of several targets since one moment.
#[derive(Debug)]
pub(crate) struct Race(Vec<(Arc<Lane>, u64)>);

impl Race {
    /// Starts a comparison of these targets.
    pub(crate) fn new<'a>(lanes: impl Iterator<Item = &'a Arc<Lane>>) -> Self {
        Self(lanes.map(|lane| (lane.clone(), lane.done.load(Ordering::Relaxed))).collect())
    }

    /// Restarts the comparison.
    pub(crate) fn start(&mut self) {
        *self = Self::new(self.0.iter().map(|(lane, _)| lane));
    }

    /// Returns true if a target has made no progress, or less than half of the progress of another target.
    pub(crate) fn is_lost_by(&self, lane: &Arc<Lane>) -> bool {
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
    fn target_is_behind_until_its_transfers_end() {
        let lanes = Lanes::default();
        let lane = lanes.lane_for(Scope::new("a"));
        let (first, second) = (lane.begin(), lane.begin());
        lane.mark_behind("test");
        drop(first);
        assert!(lanes.lane_for(Scope::new("a")).is_behind());
        assert!(!lanes.lane_for(Scope::new("b")).is_behind());
        drop(second);
        assert!(!lane.is_behind());
    }

    #[test]
    fn target_with_half_the_progress_keeps_up() {
        let lanes = Lanes::default();
        let (quick, slow) = (lanes.lane_for(Scope::new("a")), lanes.lane_for(Scope::new("b")));
        let mut race = Race::new([&quick, &slow].into_iter());
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
    fn separate_reads_of_large_blobs_are_limited() {
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
