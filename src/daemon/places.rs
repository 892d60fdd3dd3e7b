//! How many tags of one repository are worked on at once: fewer where the source counts what is read and has little left, so that a
//! tag rarely runs out of it in its middle, and the newest come first to the last of it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// How many at once at most.
const AT_ONCE: usize = 32;

/// A tag gets a place for each so many reads that are left: an index of several platforms costs as many.
const READS_A_TAG: u64 = 16;

/// The places of one repository.
pub(super) struct Places {
    places: Semaphore,
    /// Held by who is next, so that they enter in the order of coming.
    next: tokio::sync::Mutex<()>,
    left: Notify,
}

/// One of the places. Dropped, it is free for the next.
pub(super) struct Place<'a>(Mutex<Option<Taken<'a>>>);

struct Taken<'a> {
    permit: Option<SemaphorePermit<'a>>,
    places: &'a Places,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { places: Semaphore::new(AT_ONCE), next: tokio::sync::Mutex::default(), left: Notify::new() }
    }

    /// Waits for a place, first come first served. `reads_left` is what the source may still be asked for, where that is
    /// counted.
    pub(super) async fn enter(&self, reads_left: impl Fn() -> Option<u64>) -> Place<'_> {
        let _next = self.next.lock().await;
        loop {
            let left = self.left.notified();
            if self.taken() < at_once(reads_left()) {
                break;
            }
            left.await;
        }
        // Nobody closes the semaphore; if somebody did, nothing would wait any more.
        let permit = self.places.acquire().await.ok();
        Place(Mutex::new(Some(Taken { permit, places: self })))
    }

    fn taken(&self) -> usize {
        AT_ONCE - self.places.available_permits()
    }
}

impl Place<'_> {
    /// Gives the place to the next tag. What is left to do goes on.
    pub(super) fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        // One waits at most; if none does, the next to come finds this.
        self.places.left.notify_one();
    }
}

fn at_once(reads_left: Option<u64>) -> usize {
    let places = reads_left.map(|left| usize::try_from(left / READS_A_TAG).unwrap_or(AT_ONCE));
    places.unwrap_or(AT_ONCE).clamp(1, AT_ONCE)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn few_tags_are_worked_on_at_once_where_little_is_left_to_read() {
        let of = |left| at_once(Some(left));
        assert_eq!([of(0), of(31), of(32), of(100), of(512), of(9999)], [1, 1, 2, 6, 32, 32]);
        assert_eq!(at_once(None), AT_ONCE);
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
}
