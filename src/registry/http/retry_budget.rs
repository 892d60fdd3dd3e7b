//! Retry budgets. A budget limits the failed requests for one item. An item is a blob, a manifest or a list (of tags,
//! for example). Each item belongs to one repository or registry. Several layers of the program repeat failed requests.
//! All layers share the budget of an item, so the repetitions of the layers do not multiply.
//!
//! A budget is spent when one of these bounds is reached:
//!
//! - 9 failures ([`MAX_FAILURES`]);
//! - 20 throttling responses ([`MAX_THROTTLES`]);
//! - 120 seconds ([`MAX_TIME`]) as the total time of failed requests and of the pauses after failed requests.
//!
//! The client resets the budget of an item when the item progresses, or when no request for the item has failed during
//! the last 60 seconds ([`REMEMBERED`]). While a budget is spent, the client sends each request for the item only once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::retry::Failure;
use crate::store::Step;

/// Number of failed requests after which the client gives up an item.
const MAX_FAILURES: u32 = 9;

/// Number of throttling responses after which the client gives up an item.
const MAX_THROTTLES: u32 = 20;

/// Maximum total time of an item's failed requests and of the pauses after failed requests. A wait that
/// the registry requests with `Retry-After` does not count.
const MAX_TIME: Duration = Duration::from_secs(120);

/// Number of newly transferred bytes of a blob after which the client resets the budget of the blob.
const PROGRESS: u64 = 256 * 1024;

/// After the last failure, the client remembers the used part of a budget for this time.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Maximum number of items with remembered failures. Each item takes about 300 bytes.
const MAX_ITEMS: usize = 4096;

/// Retry budgets of one registry. Only items with failures take memory.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<Item, Spent>>);

/// Key of an item. The key has three parts: the repository or registry, the tag or digest, and the kind of work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Item {
    place: Arc<str>,
    subject: Arc<str>,
    work: Work,
}

/// Kind of work on an item. All steps of one kind share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// Download of a blob. Newly received bytes are progress.
    Read,
    /// Upload of a blob. Bytes that the registry newly stored are progress.
    Upload,
    /// Step without a transfer of a blob, such as the read of a manifest. Each successful response is progress.
    Of(Step),
}

/// Used part of the budget of an item, since the last reset.
#[derive(Debug, Clone, Copy)]
struct Spent {
    failures: u32,
    throttles: u32,
    time: Duration,
    /// Number of bytes of progress since the first failure. At [`PROGRESS`] bytes, the client resets the budget.
    gained: u64,
    /// Largest offset that a transfer of the blob has reached.
    furthest: u64,
    last: Instant,
}

/// Handle to the retry budget of one item.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    budgets: Arc<Budgets>,
    item: Item,
}

impl Work {
    fn from_step(step: Step) -> Self {
        match step {
            Step::ReadBlob => Self::Read,
            Step::BeginUpload | Step::SendBlob | Step::CommitBlob => Self::Upload,
            step => Self::Of(step),
        }
    }
}

impl Spent {
    fn is_exhausted(&self) -> bool {
        self.failures >= MAX_FAILURES || self.throttles >= MAX_THROTTLES || self.time >= MAX_TIME
    }
}

impl Budget {
    /// Returns the handle to a budget. `place` is the repository or the registry. `subject` is a tag, a digest or an
    /// empty text. `step` determines the kind of work.
    pub(crate) fn new(budgets: &Arc<Budgets>, place: &Arc<str>, step: Step, subject: &str) -> Self {
        let item = Item { place: place.clone(), subject: subject.into(), work: Work::from_step(step) };
        Self { budgets: budgets.clone(), item }
    }

    /// Returns the handle to the budget of the same place and subject for another step.
    pub(crate) fn at_step(&self, step: Step) -> Self {
        Self { budgets: self.budgets.clone(), item: Item { work: Work::from_step(step), ..self.item.clone() } }
    }

    /// Records that a request failed after the time `took`. Returns true if the budget allows another request.
    pub(crate) fn record_failure(&self, failure: Failure, took: Duration) -> bool {
        let mut items = self.budgets.lock();
        evict_items(&mut items);
        let fresh =
            Spent { failures: 0, throttles: 0, time: Duration::ZERO, gained: 0, furthest: 0, last: Instant::now() };
        let spent = items.entry(self.item.clone()).or_insert(fresh);
        if spent.last.elapsed() >= REMEMBERED + took {
            *spent = fresh;
        }
        match failure {
            Failure::Throttled => spent.throttles += 1,
            // `Unprocessed` does not count towards `MAX_FAILURES`. The time of the request counts towards `MAX_TIME`.
            Failure::Unprocessed => {}
            Failure::NotSent | Failure::Broken | Failure::ServerError => spent.failures += 1,
        }
        spent.time += took;
        spent.last = Instant::now();
        !spent.is_exhausted()
    }

    /// Records that the client pauses before the next request. The pause counts towards [`MAX_TIME`].
    pub(crate) fn record_pause(&self, pause: Duration) {
        if let Some(spent) = self.budgets.lock().get_mut(&self.item) {
            spent.time += pause;
            spent.last = Instant::now() + pause;
        }
    }

    /// Records that the registry told the client to wait before the next request. The wait uses up no part of the
    /// budget ([`MAX_TIME`]), and is no part of the 60 seconds after which the client forgets failures
    /// ([`REMEMBERED`]).
    pub(crate) fn record_stated_wait(&self, stated: Duration) {
        if let Some(spent) = self.budgets.lock().get_mut(&self.item) {
            spent.last += stated;
        }
    }

    /// Records a successful response. If the work is not a transfer of a blob, resets the budget. During a transfer of
    /// a blob, only transferred bytes reset the budget.
    pub(crate) fn record_success(&self) {
        if matches!(self.item.work, Work::Of(_)) {
            self.renew();
        }
    }

    /// Records the offset in the blob at which a request starts or breaks off. Bytes before this offset do not count as
    /// progress.
    pub(crate) fn mark_offset(&self, offset: u64) {
        if let Some(spent) = self.budgets.lock().get_mut(&self.item) {
            spent.furthest = spent.furthest.max(offset);
        }
    }

    /// Records that the blob has been transferred up to `offset`.
    pub(crate) fn record_progress(&self, offset: u64) {
        let mut items = self.budgets.lock();
        if let Some(spent) = items.get_mut(&self.item).filter(|spent| offset > spent.furthest) {
            spent.gained += offset - spent.furthest;
            spent.furthest = offset;
            if spent.gained >= PROGRESS {
                items.remove(&self.item);
            }
        }
    }

    /// Resets the budget. Callers call this method after the transfer of the item, or before the client tries another
    /// upload method.
    pub(crate) fn renew(&self) {
        let mut items = self.budgets.lock();
        if !items.is_empty() {
            items.remove(&self.item);
        }
    }

    /// Returns true if the budget is spent. In this case, the client does not repeat a failed request.
    pub(crate) fn is_spent(&self) -> bool {
        self.budgets
            .lock()
            .get(&self.item)
            .is_some_and(|spent| spent.is_exhausted() && spent.last.elapsed() < REMEMBERED)
    }
}

impl Budgets {
    fn lock(&self) -> MutexGuard<'_, HashMap<Item, Spent>> {
        self.0.lock()
    }
}

/// If the maximum number of items is reached, removes the items without recent failures. If the number of items is
/// still too large, removes all items.
fn evict_items(items: &mut HashMap<Item, Spent>) {
    if items.len() >= MAX_ITEMS {
        items.retain(|_, spent| spent.last.elapsed() < REMEMBERED);
    }
    if items.len() >= MAX_ITEMS {
        items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(step: Step) -> Budget {
        Budget::new(&Arc::default(), &"h/r".into(), step, "sha256:x")
    }

    fn failures_until_spent(budget: &Budget, failure: Failure, took: Duration) -> usize {
        1 + std::iter::from_fn(|| budget.record_failure(failure, took).then_some(())).take(1000).count()
    }

    #[tokio::test(start_paused = true)]
    async fn budget_ends_by_failures_throttles_or_time() {
        let seconds = Duration::from_secs;
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::Broken, seconds(1)), 9);
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::Throttled, seconds(1)), 20);
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::ServerError, seconds(60)), 2);
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::Unprocessed, seconds(1)), 120);
        let waiting = budget(Step::ReadBlob);
        assert!(waiting.record_failure(Failure::Throttled, seconds(1)));
        waiting.record_pause(seconds(119));
        assert!(waiting.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn upload_steps_share_a_budget_and_lookup_does_not() {
        let upload = budget(Step::BeginUpload);
        failures_until_spent(&upload, Failure::Broken, Duration::ZERO);
        assert!(upload.at_step(Step::SendBlob).is_spent() && upload.at_step(Step::CommitBlob).is_spent());
        assert!(!upload.at_step(Step::FindBlob).is_spent() && !upload.at_step(Step::ReadBlob).is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn blob_progresses_by_bytes_and_list_by_answers() {
        for (step, is_blob) in [(Step::ReadBlob, true), (Step::SendBlob, true), (Step::ListTags, false)] {
            let budget = budget(step);
            failures_until_spent(&budget, Failure::Broken, Duration::ZERO);
            budget.record_success();
            assert_eq!(budget.is_spent(), is_blob, "{step}");
            budget.mark_offset(1000);
            for offset in [1000, 500, 1000 + PROGRESS - 1] {
                budget.record_progress(offset);
                assert_eq!(budget.is_spent(), is_blob, "{step}");
            }
            budget.record_progress(1000 + PROGRESS);
            assert!(!budget.is_spent(), "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spent_budget_refills_after_a_minute_or_renewal() {
        let budget = budget(Step::SendBlob);
        failures_until_spent(&budget, Failure::Broken, Duration::ZERO);
        tokio::time::advance(REMEMBERED - Duration::from_secs(1)).await;
        assert!(budget.is_spent());
        assert!(
            !budget.record_failure(Failure::Broken, Duration::ZERO),
            "a request with a spent budget is recorded too"
        );
        tokio::time::advance(REMEMBERED).await;
        assert!(!budget.is_spent());
        assert_eq!(failures_until_spent(&budget, Failure::Broken, Duration::ZERO), 9);
        budget.renew();
        assert!(!budget.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn wait_stated_by_the_registry_fills_no_budget() {
        let budget = budget(Step::ReadBlob);
        for nth in 1..=20 {
            assert_eq!(budget.record_failure(Failure::Throttled, Duration::ZERO), nth < 20, "{nth}");
            budget.record_stated_wait(Duration::from_secs(300));
            tokio::time::advance(Duration::from_secs(300)).await;
        }
        assert!(budget.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_many_items_take_bounded_memory() {
        let (budgets, place) = (Arc::<Budgets>::default(), Arc::from("h/r"));
        for item in 0..3 * MAX_ITEMS {
            Budget::new(&budgets, &place, Step::ReadBlob, &item.to_string())
                .record_failure(Failure::Broken, Duration::ZERO);
        }
        assert!(budgets.lock().len() <= MAX_ITEMS);
    }
}
