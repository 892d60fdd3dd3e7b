//! Slots that limit the number of tags of one repository in progress at once. A source that counts reads and has few
//! left gets fewer slots, so that a tag rarely uses up the limit half-way, and the newest tags come first to the last
//! remaining reads.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Maximum number of slots.
const AT_ONCE: usize = 32;

/// Number of remaining reads that yield one slot: an index of several platforms costs as many.
const READS_A_TAG: u64 = 16;

/// Slots of one repository.
pub(crate) struct Places {
    places: Semaphore,
    /// Lock that the next tag holds, so that tags enter in the order of arrival.
    next: tokio::sync::Mutex<()>,
    left: Notify,
    inside: Mutex<Inside>,
}

/// Tags that have a slot, by the number of their entry.
#[derive(Default)]
struct Inside {
    entered: u64,
    numbers: BTreeSet<u64>,
}

/// Slot of one tag. Dropping it frees it for the next tag.
pub(crate) struct Place<'a> {
    taken: Mutex<Option<Taken<'a>>>,
    number: u64,
    places: &'a Places,
}

struct Taken<'a> {
    permit: Option<SemaphorePermit<'a>>,
    number: u64,
    places: &'a Places,
}

impl Places {
    pub(crate) fn new() -> Self {
        let (next, left, inside) = (tokio::sync::Mutex::default(), Notify::new(), Mutex::default());
        Self { places: Semaphore::new(AT_ONCE), next, left, inside }
    }

    /// Waits for a slot, first come first served. `reads_left` returns the number of reads that remain, for a source
    /// that counts them.
    pub(crate) async fn enter(&self, reads_left: impl Fn() -> Option<u64>) -> Place<'_> {
        let _next = self.next.lock().await;
        loop {
            let left = self.left.notified();
            if self.taken() < at_once(reads_left(), AT_ONCE) {
                break;
            }
            left.await;
        }
        // Nothing closes the semaphore. If it were closed, no tag would wait any more.
        let permit = self.places.acquire().await.ok();
        let number = self.inside().enter();
        let taken = Mutex::new(Some(Taken { permit, number, places: self }));
        Place { taken, number, places: self }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }

    fn taken(&self) -> usize {
        AT_ONCE - self.places.available_permits()
    }
}

impl Inside {
    fn enter(&mut self) -> u64 {
        self.entered += 1;
        self.numbers.insert(self.entered);
        self.entered
    }
}

impl Place<'_> {
    /// Waits before the first read that counts. Many tags may have entered before it was known that the source counts
    /// reads. Of these, too, only as many read at once as the remaining reads allow, in the order of entry. While the
    /// number of remaining reads is unknown, one tag reads at a time, and the completion of `known` may change that. A
    /// tag waits here only for tags that entered before it. Cancel safe.
    pub(crate) async fn before_reading<'k>(
        &self,
        reads_left: impl Fn() -> Option<u64>,
        known: impl Fn() -> BoxFuture<'k, ()>,
    ) {
        loop {
            let left = self.places.left.notified();
            let reads_left = reads_left();
            let before = self.places.inside().numbers.range(..self.number).take(AT_ONCE).count();
            if before < at_once(reads_left, 1) {
                return;
            }
            match reads_left {
                Some(_) => left.await,
                None => tokio::select! {
                    () = left => {}
                    () = known() => {}
                },
            }
        }
    }

    /// Releases the slot for the next tag. The remaining work of this tag continues.
    pub(crate) fn leave(&self) {
        self.taken.lock().take();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.places.inside().numbers.remove(&self.number);
        self.places.left.notify_waiters();
    }
}

/// Returns the number of slots for the remaining reads, or `unknown` if their number is not known.
fn at_once(reads_left: Option<u64>, unknown: usize) -> usize {
    let places = reads_left.map(|left| usize::try_from(left / READS_A_TAG).unwrap_or(AT_ONCE));
    places.unwrap_or(unknown).clamp(1, AT_ONCE)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn few_tags_are_worked_on_at_once_where_little_is_left_to_read() {
        let of = |left| at_once(Some(left), 1);
        assert_eq!([of(0), of(31), of(32), of(100), of(512), of(9999)], [1, 1, 2, 6, 32, 32]);
        assert_eq!([at_once(None, AT_ONCE), at_once(None, 1)], [AT_ONCE, 1]);
    }

    #[test]
    fn those_who_wait_enter_in_the_order_of_coming_when_enough_have_left() {
        let (places, left) = (Places::new(), Cell::new(None));
        let enter = || Box::pin(places.enter(|| left.get()));
        let first: Vec<Place<'_>> = (0..4).map(|_| enter().now_or_never().unwrap()).collect();
        left.set(Some(40));
        let (mut second, mut third) = (enter(), enter());
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        for place in &first[..2] {
            place.leave();
            assert!(second.as_mut().now_or_never().is_none(), "two of two places are taken");
        }
        first[2].leave();
        assert!(third.as_mut().now_or_never().is_none(), "it came later");
        let second = second.now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn of_those_who_entered_unknowing_the_first_reads_alone() {
        let (places, left) = (Places::new(), Cell::new(None));
        let never = || std::future::pending::<()>().boxed();
        let inside: Vec<Place<'_>> =
            (0..4).map(|_| Box::pin(places.enter(|| left.get())).now_or_never().unwrap()).collect();
        let mut reading: Vec<_> =
            inside.iter().map(|place| Box::pin(place.before_reading(|| left.get(), never))).collect();
        let mut may = |at: usize| reading[at].as_mut().now_or_never().is_some();
        assert_eq!([may(3), may(1), may(0)], [false, false, true], "the first to enter is the first to read");
        // The answer to the first read allows two at a time.
        left.set(Some(40));
        inside[3].leave();
        assert_eq!([may(2), may(1)], [false, true]);
        inside[0].leave();
        assert!(may(2));
    }
}
