//! Stragglers: targets that are slower than the other targets of the same copy (the siblings). For a straggler, the
//! copy reads each blob from the source separately, so no sibling waits for the straggler. A limit on separate reads
//! leaves memory and request permits to the siblings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::Scope;

/// Maximum number of separate reads of large blobs for one straggler at the same time.
const SEPARATE_READS: usize = 4;

/// Maximum size of a small blob, in bytes. A separate read of a small blob needs no permit.
const MAX_SMALL_BLOB: u64 = 128 * 1024;

/// Progress trackers of all targets that have siblings, for the whole process.
#[derive(Debug, Default)]
pub(crate) struct ProgressTrackers(Mutex<HashMap<Scope, Arc<ProgressTracker>>>);

impl ProgressTrackers {
    /// Returns the tracker of one registry or layout.
    pub(crate) fn tracker_for(&self, scope: Scope) -> Arc<ProgressTracker> {
        self.0.lock().entry(scope.clone()).or_insert_with(|| Arc::new(ProgressTracker::new(scope))).clone()
    }
}

/// Progress tracker of a target: records whether the target keeps up with its siblings.
#[derive(Debug)]
pub(crate) struct ProgressTracker {
    scope: Scope,
    behind: AtomicBool,
    running: AtomicUsize,
    /// Number of blobs whose transfer to the target has ended.
    finished: AtomicU64,
    separate_reads: Arc<Semaphore>,
}

/// Guard of one transfer to the target. When the guard is dropped, the transfer counts as ended.
#[derive(Debug)]
pub(crate) struct TransferGuard(Arc<ProgressTracker>);

#[derive(Debug)]
pub(crate) struct SeparateReadPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl ProgressTracker {
    fn new(scope: Scope) -> Self {
        let separate_reads = Arc::new(Semaphore::new(SEPARATE_READS));
        Self {
            scope,
            behind: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            finished: AtomicU64::new(0),
            separate_reads,
        }
    }

    /// Marks the target as a straggler. `why` is the reason for the log.
    pub(crate) fn mark_behind(&self, why: &str) {
        if !self.behind.swap(true, Ordering::Relaxed) {
            let registry = &self.scope;
            tracing::debug!(%registry, why, "the target is slower than the other targets: transship reads the source \
                separately for this target");
        }
    }

    /// Returns true if the target is a straggler. The target is a straggler until all its transfers have ended.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Counts a transfer as running until the returned guard is dropped.
    pub(crate) fn start_transfer(self: &Arc<Self>) -> TransferGuard {
        self.running.fetch_add(1, Ordering::Relaxed);
        TransferGuard(self.clone())
    }

    /// Waits for a permit for a separate read of a blob of `size` bytes.
    pub(crate) async fn separate_read(&self, size: u64) -> SeparateReadPermit {
        if size <= MAX_SMALL_BLOB {
            return SeparateReadPermit { _permit: None };
        }
        let permit = self.separate_reads.clone().acquire_owned().await;
        SeparateReadPermit { _permit: Some(permit.expect("the semaphore is never closed")) }
    }

    /// Returns a permit for a separate read of a blob of `size` bytes; `None` if all permits are taken.
    pub(crate) fn try_separate_read(&self, size: u64) -> Option<SeparateReadPermit> {
        if size <= MAX_SMALL_BLOB {
            return Some(SeparateReadPermit { _permit: None });
        }
        self.separate_reads.clone().try_acquire_owned().ok().map(|permit| SeparateReadPermit { _permit: Some(permit) })
    }
}

/// Comparison of the progress of several targets. For each target, contains the number of finished blobs at the start
/// of the comparison.
#[derive(Debug)]
pub(crate) struct ProgressComparison(Vec<(Arc<ProgressTracker>, u64)>);

impl ProgressComparison {
    pub(crate) fn new<'a>(trackers: impl Iterator<Item = &'a Arc<ProgressTracker>>) -> Self {
        Self(trackers.map(|tracker| (tracker.clone(), tracker.finished.load(Ordering::Relaxed))).collect())
    }

    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.0.iter().map(|(tracker, _)| tracker));
    }

    /// Counts the blobs that each target has finished since the start of the comparison. Returns true in these cases:
    /// - The target has finished no blob.
    /// - Another target has finished more than twice the number of blobs of this target.
    pub(crate) fn is_behind(&self, tracker: &Arc<ProgressTracker>) -> bool {
        let finished_since =
            |(tracker, before): &(Arc<ProgressTracker>, u64)| tracker.finished.load(Ordering::Relaxed) - before;
        let own = self.0.iter().find(|(other, _)| Arc::ptr_eq(other, tracker)).map_or(0, finished_since);
        own == 0 || own * 2 < self.0.iter().map(finished_since).max().unwrap_or(0)
    }
}

impl Drop for TransferGuard {
    fn drop(&mut self) {
        self.0.finished.fetch_add(1, Ordering::Relaxed);
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 {
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
        let trackers = ProgressTrackers::default();
        let tracker = trackers.tracker_for(Scope::new("a"));
        let (first, second) = (tracker.start_transfer(), tracker.start_transfer());
        tracker.mark_behind("test");
        drop(first);
        assert!(trackers.tracker_for(Scope::new("a")).is_behind());
        assert!(!trackers.tracker_for(Scope::new("b")).is_behind());
        drop(second);
        assert!(!tracker.is_behind());
    }

    #[test]
    fn target_with_half_the_progress_keeps_up() {
        let trackers = ProgressTrackers::default();
        let (quick, slow) = (trackers.tracker_for(Scope::new("a")), trackers.tracker_for(Scope::new("b")));
        let mut comparison = ProgressComparison::new([&quick, &slow].into_iter());
        let finish = |tracker: &Arc<ProgressTracker>, times| (0..times).for_each(|_| drop(tracker.start_transfer()));
        finish(&quick, 4);
        assert!(comparison.is_behind(&slow), "the slow target has finished no blob");
        finish(&slow, 1);
        assert!(comparison.is_behind(&slow));
        finish(&slow, 1);
        assert!(!comparison.is_behind(&slow) && !comparison.is_behind(&quick));
        comparison.restart();
        assert!(comparison.is_behind(&slow));
    }

    #[test]
    fn separate_reads_of_large_blobs_are_limited() {
        let tracker = ProgressTracker::new(Scope::new("a"));
        let read = || tracker.separate_read(MAX_SMALL_BLOB + 1).now_or_never();
        let held = [read(), read(), read(), read()];
        assert!(held.iter().all(Option::is_some));
        assert!(read().is_none() && tracker.try_separate_read(MAX_SMALL_BLOB + 1).is_none());
        assert!(tracker.separate_read(MAX_SMALL_BLOB).now_or_never().is_some());
        drop(held);
        assert!(tracker.try_separate_read(MAX_SMALL_BLOB + 1).is_some());
    }
}
