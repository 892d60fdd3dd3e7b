//! Slots that limit the number of tags of one repository in progress at once. If a source counts reads and few remain,
//! it gets fewer slots. Then the reads rarely run out in the middle of a tag, and the newest tags get the last
//! remaining reads.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Maximum number of slots.
const AT_ONCE: usize = 32;

/// Number of remaining reads that yield one slot: an index of several platforms needs as many.
const READS_A_TAG: u64 = 16;

/// Slots of one repository.
pub(crate) struct TagSlots {
    permits: Semaphore,
    /// Lock that the next tag holds, so that tags enter in the order of arrival.
    next: tokio::sync::Mutex<()>,
    released: Notify,
    holders: Mutex<SlotHolders>,
}

/// Tags that have a slot, numbered in the order in which each got its slot.
#[derive(Default)]
struct SlotHolders {
    entered: u64,
    numbers: BTreeSet<u64>,
}

/// Slot of one tag. Dropping this value frees the slot for the next tag.
pub(crate) struct TagSlot<'a> {
    held: Mutex<Option<HeldSlot<'a>>>,
    number: u64,
    slots: &'a TagSlots,
}

/// Permit of a slot. Dropping this value frees the slot for the next tag.
struct HeldSlot<'a> {
    permit: Option<SemaphorePermit<'a>>,
    number: u64,
    slots: &'a TagSlots,
}

impl TagSlots {
    pub(crate) fn new() -> Self {
        let (next, released, holders) = (tokio::sync::Mutex::default(), Notify::new(), Mutex::default());
        Self { permits: Semaphore::new(AT_ONCE), next, released, holders }
    }

    /// Waits for a slot, first come first served. `reads_left` returns the number of reads that remain, for a source
    /// that counts them.
    pub(crate) async fn acquire(&self, reads_left: impl Fn() -> Option<u64>) -> TagSlot<'_> {
        let _next = self.next.lock().await;
        loop {
            let released = self.released.notified();
            if self.taken_count() < slot_count(reads_left(), AT_ONCE) {
                break;
            }
            released.await;
        }
        // Nothing closes the semaphore. If it were closed, no tag would wait any more.
        let permit = self.permits.acquire().await.ok();
        let number = self.holders.lock().add();
        let held = Mutex::new(Some(HeldSlot { permit, number, slots: self }));
        TagSlot { held, number, slots: self }
    }

    fn taken_count(&self) -> usize {
        AT_ONCE - self.permits.available_permits()
    }
}

impl SlotHolders {
    /// Adds a tag and returns its number.
    fn add(&mut self) -> u64 {
        self.entered += 1;
        self.numbers.insert(self.entered);
        self.entered
    }
}

impl TagSlot<'_> {
    /// Waits before the first read that counts. Many tags may have entered before it was known that the source counts
    /// reads. Of these tags, only as many read at once as the remaining reads allow, in the order of entry. While the
    /// number of remaining reads is unknown, one tag reads at a time, and the completion of `known` may change that. A
    /// tag waits here only for tags that entered earlier. Cancel safe.
    pub(crate) async fn wait_to_read<'k>(
        &self,
        reads_left: impl Fn() -> Option<u64>,
        known: impl Fn() -> BoxFuture<'k, ()>,
    ) {
        loop {
            let released = self.slots.released.notified();
            let reads_left = reads_left();
            let before = self.slots.holders.lock().numbers.range(..self.number).take(AT_ONCE).count();
            if before < slot_count(reads_left, 1) {
                return;
            }
            match reads_left {
                Some(_) => released.await,
                None => tokio::select! {
                    () = released => {}
                    () = known() => {}
                },
            }
        }
    }

    /// Releases the slot for the next tag. The remaining work of this tag continues.
    pub(crate) fn release(&self) {
        self.held.lock().take();
    }
}

impl Drop for HeldSlot<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.slots.holders.lock().numbers.remove(&self.number);
        self.slots.released.notify_waiters();
    }
}

/// Returns the number of slots for the remaining reads, or `unknown` if their number is not known.
fn slot_count(reads_left: Option<u64>, unknown: usize) -> usize {
    let slots = reads_left.map(|left| usize::try_from(left / READS_A_TAG).unwrap_or(AT_ONCE));
    slots.unwrap_or(unknown).clamp(1, AT_ONCE)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn slots_shrink_with_the_remaining_reads() {
        let slots = |left| slot_count(Some(left), 1);
        assert_eq!([slots(0), slots(31), slots(32), slots(100), slots(512), slots(9999)], [1, 1, 2, 6, 32, 32]);
        assert_eq!([slot_count(None, AT_ONCE), slot_count(None, 1)], [AT_ONCE, 1]);
    }

    #[test]
    fn waiting_tags_get_slots_in_order_of_arrival() {
        let (slots, left) = (TagSlots::new(), Cell::new(None));
        let acquire = || Box::pin(slots.acquire(|| left.get()));
        let first: Vec<TagSlot<'_>> = (0..4).map(|_| acquire().now_or_never().unwrap()).collect();
        left.set(Some(40));
        let (mut second, mut third) = (acquire(), acquire());
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        for slot in &first[..2] {
            slot.release();
            assert!(second.as_mut().now_or_never().is_none(), "both slots are taken");
        }
        first[2].release();
        assert!(third.as_mut().now_or_never().is_none(), "it came later");
        let second = second.now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn first_tag_reads_alone_while_reads_are_unknown() {
        let (slots, left) = (TagSlots::new(), Cell::new(None));
        let never = || std::future::pending::<()>().boxed();
        let inside: Vec<TagSlot<'_>> =
            (0..4).map(|_| Box::pin(slots.acquire(|| left.get())).now_or_never().unwrap()).collect();
        let mut reading: Vec<_> = inside.iter().map(|slot| Box::pin(slot.wait_to_read(|| left.get(), never))).collect();
        let mut may = |at: usize| reading[at].as_mut().now_or_never().is_some();
        assert_eq!([may(3), may(1), may(0)], [false, false, true], "the first tag with a slot reads first");
        // The answer to the first read allows two at a time.
        left.set(Some(40));
        inside[3].release();
        assert_eq!([may(2), may(1)], [false, true]);
        inside[0].release();
        assert!(may(2));
    }
}
