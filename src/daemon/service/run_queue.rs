//! Queue of the entries that are due and wait for one of the `entries_at_once` slots: first in, first out. An entry is
//! in the queue at most once.

use std::collections::VecDeque;

use crate::journal::Trigger;
use crate::sync::TagFilter;

/// Entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueuedRun {
    pub(crate) entry: String,
    pub(crate) trigger: Trigger,
    /// Tags to which the run is limited; `None` for all tags that the entry selects.
    pub(crate) only: Option<TagFilter>,
}

/// Waiting entries, the next entry first.
#[derive(Debug, Default)]
pub(crate) struct RunQueue(VecDeque<QueuedRun>);

impl RunQueue {
    /// Appends an entry. If the entry is in the queue already, the two runs are merged into one.
    pub(crate) fn push(&mut self, due: QueuedRun) {
        match self.0.iter_mut().find(|waiting| waiting.entry == due.entry) {
            Some(waiting) => waiting.include(due),
            None => self.0.push_back(due),
        }
    }

    /// Puts an entry at the head of the queue. The loop uses this method for a run that resumes, because the stopped
    /// run already had a slot.
    pub(crate) fn push_first(&mut self, due: QueuedRun) {
        self.0.retain(|waiting| waiting.entry != due.entry);
        self.0.push_front(due);
    }

    /// Removes and returns the first entry for which `free` returns true. Entries before the returned entry stay in the
    /// queue.
    pub(crate) fn pop(&mut self, free: impl Fn(&str) -> bool) -> Option<QueuedRun> {
        let index = self.0.iter().position(|due| free(&due.entry))?;
        self.0.remove(index)
    }

    /// Returns true if a run of the whole entry is in the queue.
    pub(crate) fn has_whole(&self, entry: &str) -> bool {
        self.0.iter().any(|due| due.entry == entry && due.only.is_none())
    }

    /// Returns the waiting entries with their triggers, the next entry first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Trigger)> {
        self.0.iter().map(|due| (due.entry.as_str(), due.trigger))
    }

    /// Removes an entry. Returns true if the entry was in the queue.
    pub(crate) fn remove(&mut self, entry: &str) -> bool {
        let before = self.0.len();
        self.retain(|waiting| waiting != entry);
        self.0.len() < before
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|due| keep(&due.entry));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl QueuedRun {
    /// Merges another run of the same entry into this run.
    fn include(&mut self, other: QueuedRun) {
        if self.only.is_some() && other.only.is_none() {
            self.trigger = other.trigger;
        }
        self.only = TagFilter::union(self.only.take(), other.only);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(entry: &str) -> QueuedRun {
        QueuedRun { entry: entry.into(), trigger: Trigger::Start, only: None }
    }

    fn pushed(tag: &str) -> QueuedRun {
        let only = Some(TagFilter::from_tag("app".parse().unwrap(), tag.parse().unwrap()));
        QueuedRun { trigger: Trigger::PushEvent, only, ..due("a") }
    }

    #[test]
    fn waiting_pushes_merge_into_one_run() {
        let mut queue = RunQueue::default();
        queue.push(pushed("v1"));
        queue.push(pushed("v2"));
        assert!(!queue.has_whole("a"));
        let merged = QueuedRun { only: TagFilter::union(pushed("v1").only, pushed("v2").only), ..pushed("v1") };
        assert_eq!(queue.pop(|_| true), Some(merged));
        queue.push(pushed("v1"));
        queue.push(due("a"));
        queue.push(pushed("v2"));
        assert!(queue.has_whole("a"));
        assert_eq!(queue.pop(|_| true), Some(due("a")));
        assert_eq!(queue.pop(|_| true), None);
    }

    #[test]
    fn entry_waits_once_and_blocks_no_other() {
        let mut queue = RunQueue::default();
        for entry in ["a", "b", "a"] {
            queue.push(due(entry));
        }
        assert_eq!(queue.pop(|entry| entry != "a"), Some(due("b")));
        queue.push(due("c"));
        queue.push_first(due("c"));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(|_| true)).map(|due| due.entry).collect();
        assert_eq!(order, ["c", "a"]);
    }
}
