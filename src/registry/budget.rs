//! The retry budget of an item: one blob, manifest or list of one repository. Every layer that repeats a request for it
//! draws on the same budget, so that repetitions never multiply.
//!
//! A budget ends after [`FAILURES`] failures, after [`THROTTLES`] answers that ask for patience, or when failed requests
//! and the pauses behind them took [`LONGEST`]. It is full again when the item progresses, and when it has not failed for
//! [`REMEMBERED`]. A later request for an item whose budget is spent is sent once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::retry::Failure;
use crate::store::Step;

/// The failed requests of one item after which it is given up.
const FAILURES: u32 = 9;

/// The answers that ask for patience (429) of one item after which it is given up.
const THROTTLES: u32 = 20;

/// The time that failed requests of one item and the pauses behind them take at most. A pause that the registry states
/// does not count.
const LONGEST: Duration = Duration::from_secs(120);

/// The bytes of a blob that count as progress.
const PROGRESS: u64 = 256 * 1024;

/// The time after the last failure for which a budget is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The most items whose failures are remembered. At about 300 bytes each this is some 1.2 MiB at most.
const MOST: usize = 4096;

/// The budgets of one registry. Only items that have failed take room.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<Item, Spent>>);

/// A place, the tag or digest there, and the work that is done with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Item {
    place: Arc<str>,
    subject: Arc<str>,
    work: Work,
}

/// The steps of one work share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// A blob on its way out: it progresses by bytes.
    Read,
    /// A blob on its way in: it progresses by bytes.
    Upload,
    /// Any other step, which progresses when it is answered.
    Of(Step),
}

/// What an item has used up since it last progressed.
#[derive(Debug, Clone, Copy)]
struct Spent {
    failures: u32,
    throttles: u32,
    time: Duration,
    /// The bytes that it came further, and where its furthest byte is.
    gained: u64,
    furthest: u64,
    last: Instant,
}

/// The budget of one item, by name.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    budgets: Arc<Budgets>,
    item: Item,
}

impl Work {
    fn of(step: Step) -> Self {
        match step {
            Step::ReadBlob => Self::Read,
            Step::BeginUpload | Step::SendBlob | Step::CommitBlob => Self::Upload,
            step => Self::Of(step),
        }
    }
}

impl Spent {
    fn is_all(&self) -> bool {
        self.failures >= FAILURES || self.throttles >= THROTTLES || self.time >= LONGEST
    }
}

impl Budget {
    /// The budget of a step with `subject`, a tag, a digest or nothing, at `place`.
    pub(crate) fn of(budgets: &Arc<Budgets>, place: &Arc<str>, step: Step, subject: &str) -> Self {
        let item = Item { place: place.clone(), subject: subject.into(), work: Work::of(step) };
        Self { budgets: budgets.clone(), item }
    }

    /// The budget of the same subject at another step.
    pub(crate) fn at(&self, step: Step) -> Self {
        Self { budgets: self.budgets.clone(), item: Item { work: Work::of(step), ..self.item.clone() } }
    }

    /// Takes in that a request failed after `took`. Returns whether another one may be sent.
    pub(crate) fn draw(&self, failure: Failure, took: Duration) -> bool {
        let mut items = self.budgets.lock();
        make_room(&mut items);
        let fresh =
            Spent { failures: 0, throttles: 0, time: Duration::ZERO, gained: 0, furthest: 0, last: Instant::now() };
        let spent = items.entry(self.item.clone()).or_insert(fresh);
        if spent.last.elapsed() >= REMEMBERED + took {
            *spent = fresh;
        }
        match failure {
            Failure::Throttled => spent.throttles += 1,
            // A request that nobody has looked at is no failure, and takes time all the same.
            Failure::NotTaken => {}
            Failure::NotSent | Failure::Broken | Failure::Failing => spent.failures += 1,
        }
        spent.time += took;
        spent.last = Instant::now();
        !spent.is_all()
    }

    /// Takes in that somebody waits before the next request.
    pub(crate) fn wait(&self, pause: Duration) {
        if let Some(spent) = self.budgets.lock().get_mut(&self.item) {
            spent.time += pause;
            spent.last = Instant::now() + pause;
        }
    }

    /// Takes in that the registry asked for a wait before the next request. It takes no time of the budget, and is no time
    /// without failures either: else each long wait would fill the budget.
    pub(crate) fn rest(&self, asked: Duration) {
        if let Some(spent) = self.budgets.lock().get_mut(&self.item) {
            spent.last += asked;
        }
    }

    /// Takes in an answer that is no failure. It fills the budget of all work but that on blobs, which may break off behind
    /// any number of good answers.
    pub(crate) fn answered(&self) {
        if matches!(self.item.work, Work::Of(_)) {
            self.renew();
        }
    }

    /// Takes in the offset within the blob at which a request begins or breaks off. Bytes before it are no progress.
    pub(crate) fn stands_at(&self, offset: u64) {
        if let Some(spent) = self.budgets.lock().get_mut(&self.item) {
            spent.furthest = spent.furthest.max(offset);
        }
    }

    /// Takes in that the blob has come up to `offset`.
    pub(crate) fn reached(&self, offset: u64) {
        let mut items = self.budgets.lock();
        if let Some(spent) = items.get_mut(&self.item).filter(|spent| offset > spent.furthest) {
            spent.gained += offset - spent.furthest;
            spent.furthest = offset;
            if spent.gained >= PROGRESS {
                items.remove(&self.item);
            }
        }
    }

    /// Fills the budget: the item arrived, or goes on in another way than the one that failed.
    pub(crate) fn renew(&self) {
        let mut items = self.budgets.lock();
        if !items.is_empty() {
            items.remove(&self.item);
        }
    }

    /// Whether nobody is to send another request for the item now.
    pub(crate) fn is_spent(&self) -> bool {
        self.budgets.lock().get(&self.item).is_some_and(|spent| spent.is_all() && spent.last.elapsed() < REMEMBERED)
    }
}

impl Budgets {
    fn lock(&self) -> MutexGuard<'_, HashMap<Item, Spent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(items: &mut HashMap<Item, Spent>) {
    if items.len() >= MOST {
        items.retain(|_, spent| spent.last.elapsed() < REMEMBERED);
    }
    if items.len() >= MOST {
        items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(step: Step) -> Budget {
        Budget::of(&Arc::default(), &"h/r".into(), step, "sha256:x")
    }

    fn failures_until_spent(budget: &Budget, failure: Failure, took: Duration) -> usize {
        1 + std::iter::from_fn(|| budget.draw(failure, took).then_some(())).take(1000).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_ends_by_failures_by_throttles_or_by_time() {
        let seconds = Duration::from_secs;
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::Broken, seconds(1)), 9);
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::Throttled, seconds(1)), 20);
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::Failing, seconds(60)), 2);
        assert_eq!(failures_until_spent(&budget(Step::ReadBlob), Failure::NotTaken, seconds(1)), 120);
        let waiting = budget(Step::ReadBlob);
        assert!(waiting.draw(Failure::Throttled, seconds(1)));
        waiting.wait(seconds(119));
        assert!(waiting.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn the_steps_of_an_upload_share_a_budget_and_a_look_has_its_own() {
        let upload = budget(Step::BeginUpload);
        failures_until_spent(&upload, Failure::Broken, Duration::ZERO);
        assert!(upload.at(Step::SendBlob).is_spent() && upload.at(Step::CommitBlob).is_spent());
        assert!(!upload.at(Step::FindBlob).is_spent() && !upload.at(Step::ReadBlob).is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_progresses_by_bytes_and_a_list_by_answers() {
        for (step, is_blob) in [(Step::ReadBlob, true), (Step::SendBlob, true), (Step::ListTags, false)] {
            let budget = budget(step);
            failures_until_spent(&budget, Failure::Broken, Duration::ZERO);
            budget.answered();
            assert_eq!(budget.is_spent(), is_blob, "{step}");
            budget.stands_at(1000);
            for offset in [1000, 500, 1000 + PROGRESS - 1] {
                budget.reached(offset);
                assert_eq!(budget.is_spent(), is_blob, "{step}");
            }
            budget.reached(1000 + PROGRESS);
            assert!(!budget.is_spent(), "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_budget_is_full_again_after_a_minute_or_by_another_way() {
        let budget = budget(Step::SendBlob);
        failures_until_spent(&budget, Failure::Broken, Duration::ZERO);
        tokio::time::advance(REMEMBERED - Duration::from_secs(1)).await;
        assert!(budget.is_spent());
        assert!(!budget.draw(Failure::Broken, Duration::ZERO), "a request in vain is remembered too");
        tokio::time::advance(REMEMBERED).await;
        assert!(!budget.is_spent());
        assert_eq!(failures_until_spent(&budget, Failure::Broken, Duration::ZERO), 9);
        budget.renew();
        assert!(!budget.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_registry_asks_for_fills_no_budget() {
        let budget = budget(Step::ReadBlob);
        for nth in 1..=20 {
            assert_eq!(budget.draw(Failure::Throttled, Duration::ZERO), nth < 20, "{nth}");
            budget.rest(Duration::from_secs(300));
            tokio::time::advance(Duration::from_secs(300)).await;
        }
        assert!(budget.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_many_items_take_bounded_room() {
        let (budgets, place) = (Arc::<Budgets>::default(), Arc::from("h/r"));
        for at in 0..3 * MOST {
            Budget::of(&budgets, &place, Step::ReadBlob, &at.to_string()).draw(Failure::Broken, Duration::ZERO);
        }
        assert!(budgets.lock().len() <= MOST);
    }
}
