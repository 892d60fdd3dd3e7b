//! Slots that limit how many tags of one repository a run syncs at the same time. If a source counts reads against a
//! pull quota and few reads remain, the repository gets fewer slots. So the reads rarely run out during the sync of a
//! tag, and the newest tags get the last reads.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

const MAX_SLOTS: usize = 32;

/// Number of remaining reads that a source must have for each slot. An index with several platforms needs about 16
/// reads.
const READS_PER_SLOT: u64 = 16;

pub(crate) struct TagSlots {
    permits: Semaphore,
    /// Lock that a tag holds while the tag waits for the next slot. So tags get slots in the order of their requests.
    next: tokio::sync::Mutex<()>,
    released: Notify,
    holders: Mutex<SlotHolders>,
}

/// Tags that have a slot. The numbers follow the order in which the tags got their slots.
#[derive(Default)]
struct SlotHolders {
    entered: u64,
    numbers: BTreeSet<u64>,
}

/// Slot of one tag. Dropping this value, or [`TagSlot::release`], frees the slot for the next tag.
pub(crate) struct TagSlot<'a> {
    occupied: Mutex<Option<OccupiedSlot<'a>>>,
    number: u64,
    slots: &'a TagSlots,
}

/// Occupied slot. Dropping this value frees the slot for the next tag.
struct OccupiedSlot<'a> {
    permit: Option<SemaphorePermit<'a>>,
    number: u64,
    slots: &'a TagSlots,
}

impl TagSlots {
    pub(crate) fn new() -> Self {
        let (next, released, holders) = (tokio::sync::Mutex::default(), Notify::new(), Mutex::default());
        Self { permits: Semaphore::new(MAX_SLOTS), next, released, holders }
    }

    /// Waits for a slot, in the order of the calls. `remaining_reads` returns the number of remaining reads of a source
    /// that counts reads, or `None` if the number is unknown.
    pub(crate) async fn acquire(&self, remaining_reads: impl Fn() -> Option<u64>) -> TagSlot<'_> {
        let _next = self.next.lock().await;
        loop {
            let released = self.released.notified();
            if self.taken_count() < slot_count(remaining_reads(), MAX_SLOTS) {
                break;
            }
            released.await;
        }
        // The semaphore is never closed, so `ok` drops no error.
        let permit = self.permits.acquire().await.ok();
        let number = self.holders.lock().add();
        let occupied = Mutex::new(Some(OccupiedSlot { permit, number, slots: self }));
        TagSlot { occupied, number, slots: self }
    }

    fn taken_count(&self) -> usize {
        MAX_SLOTS - self.permits.available_permits()
    }
}

impl SlotHolders {
    fn add(&mut self) -> u64 {
        self.entered += 1;
        self.numbers.insert(self.entered);
        self.entered
    }
}

impl TagSlot<'_> {
    /// Waits until this tag may send its first request that the source counts as a read.
    ///
    /// Many tags may get a slot before the run knows that the source counts reads. This method is a second limit for
    /// these tags: the number of remaining reads limits how many tags read at the same time. A tag waits only for tags
    /// that got their slots earlier. While the number of remaining reads is unknown, only the first tag reads. After
    /// `known` completes, the function calls `remaining_reads` again. Cancel safe.
    pub(crate) async fn wait_to_read<'k>(
        &self,
        remaining_reads: impl Fn() -> Option<u64>,
        known: impl Fn() -> BoxFuture<'k, ()>,
    ) {
        loop {
            let released = self.slots.released.notified();
            let remaining_reads = remaining_reads();
            let before = self.slots.holders.lock().numbers.range(..self.number).take(MAX_SLOTS).count();
            if before < slot_count(remaining_reads, 1) {
                return;
            }
            match remaining_reads {
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
        self.occupied.lock().take();
    }
}

impl Drop for OccupiedSlot<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.slots.holders.lock().numbers.remove(&self.number);
        self.slots.released.notify_waiters();
    }
}

/// Returns the number of slots for a number of remaining reads. If the number of reads is unknown, the result is
/// `unknown`.
fn slot_count(remaining_reads: Option<u64>, unknown: usize) -> usize {
    let slots = remaining_reads.map(|remaining| usize::try_from(remaining / READS_PER_SLOT).unwrap_or(MAX_SLOTS));
    slots.unwrap_or(unknown).clamp(1, MAX_SLOTS)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn slots_shrink_with_the_remaining_reads() {
        let slots = |remaining| slot_count(Some(remaining), 1);
        assert_eq!([slots(0), slots(31), slots(32), slots(100), slots(512), slots(9999)], [1, 1, 2, 6, 32, 32]);
        assert_eq!([slot_count(None, MAX_SLOTS), slot_count(None, 1)], [MAX_SLOTS, 1]);
    }

    #[test]
    fn waiting_tags_get_slots_in_order_of_arrival() {
        let (slots, remaining) = (TagSlots::new(), Cell::new(None));
        let acquire = || Box::pin(slots.acquire(|| remaining.get()));
        let first: Vec<TagSlot<'_>> = (0..4).map(|_| acquire().now_or_never().unwrap()).collect();
        remaining.set(Some(40));
        let (mut second, mut third) = (acquire(), acquire());
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        for slot in &first[..2] {
            slot.release();
            assert!(second.as_mut().now_or_never().is_none(), "both slots are taken");
        }
        first[2].release();
        assert!(third.as_mut().now_or_never().is_none(), "the third tag requested its slot after the second tag");
        let second = second.now_or_never().unwrap();
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn first_tag_reads_alone_while_reads_are_unknown() {
        let (slots, remaining) = (TagSlots::new(), Cell::new(None));
        let never = || std::future::pending::<()>().boxed();
        let inside: Vec<TagSlot<'_>> =
            (0..4).map(|_| Box::pin(slots.acquire(|| remaining.get())).now_or_never().unwrap()).collect();
        let mut reading: Vec<_> =
            inside.iter().map(|slot| Box::pin(slot.wait_to_read(|| remaining.get(), never))).collect();
        let mut may = |index: usize| reading[index].as_mut().now_or_never().is_some();
        assert_eq!([may(3), may(1), may(0)], [false, false, true], "the first tag with a slot reads first");
        // The response to the first read states 40 remaining reads. So two tags may read at a time.
        remaining.set(Some(40));
        inside[3].release();
        assert_eq!([may(2), may(1)], [false, true]);
        inside[0].release();
        assert!(may(2));
    }
}
