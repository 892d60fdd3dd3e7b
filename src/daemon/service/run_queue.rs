//! Entries that are due and wait for one of the `entries_at_once` places, first come, first served. Each waits once.

use std::collections::VecDeque;

use crate::journal::Trigger;
use crate::sync::TagFilter;

/// An entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) entry: String,
    pub(crate) trigger: Trigger,
    /// The tags that it is about; `None` is all that the entry wants.
    pub(crate) only: Option<TagFilter>,
}

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Queue(VecDeque<Due>);

impl Queue {
    /// Behind all others, unless it waits already: then one run is for both reasons.
    pub(crate) fn push(&mut self, due: Due) {
        match self.0.iter_mut().find(|waiting| waiting.entry == due.entry) {
            Some(waiting) => waiting.include(due),
            None => self.0.push_back(due),
        }
    }

    /// Before all others: it has had its turn and goes on.
    pub(crate) fn push_first(&mut self, due: Due) {
        self.0.retain(|waiting| waiting.entry != due.entry);
        self.0.push_front(due);
    }

    /// The first one that is `free`: an entry that still runs waits for its own end and holds no other one up.
    pub(crate) fn pop(&mut self, free: impl Fn(&str) -> bool) -> Option<Due> {
        let index = self.0.iter().position(|due| free(&due.entry))?;
        self.0.remove(index)
    }

    /// Whether a run of the whole entry waits.
    pub(crate) fn has_whole(&self, entry: &str) -> bool {
        self.0.iter().any(|due| due.entry == entry && due.only.is_none())
    }

    /// Who waits for what reason, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Trigger)> {
        self.0.iter().map(|due| (due.entry.as_str(), due.trigger))
    }

    /// Takes an entry out. Says whether it was there.
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

impl Due {
    fn include(&mut self, other: Due) {
        if self.only.is_some() && other.only.is_none() {
            self.trigger = other.trigger;
        }
        self.only = TagFilter::both(self.only.take(), other.only);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(entry: &str) -> Due {
        Due { entry: entry.into(), trigger: Trigger::Start, only: None }
    }

    fn pushed(tag: &str) -> Due {
        let only = Some(TagFilter::tag("app".parse().unwrap(), tag.parse().unwrap()));
        Due { trigger: Trigger::Pushed, only, ..due("a") }
    }

    #[test]
    fn pushes_that_wait_are_one_run_and_a_whole_one_includes_them() {
        let mut queue = Queue::default();
        queue.push(pushed("v1"));
        queue.push(pushed("v2"));
        assert!(!queue.has_whole("a"));
        let both = Due { only: TagFilter::both(pushed("v1").only, pushed("v2").only), ..pushed("v1") };
        assert_eq!(queue.pop(|_| true), Some(both));
        queue.push(pushed("v1"));
        queue.push(due("a"));
        queue.push(pushed("v2"));
        assert!(queue.has_whole("a"));
        assert_eq!(queue.pop(|_| true), Some(due("a")));
        assert_eq!(queue.pop(|_| true), None);
    }

    #[test]
    fn an_entry_waits_once_and_one_that_runs_holds_no_other_up() {
        let mut queue = Queue::default();
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
