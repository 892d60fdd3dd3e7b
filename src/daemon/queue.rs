//! Entries that are due and wait for one of the `entries_at_once` places, first come, first served. Each waits once.

use std::collections::VecDeque;

use crate::journal::Trigger;

/// An entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) entry: String,
    pub(super) trigger: Trigger,
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Due>);

impl Queue {
    /// Behind all others, unless it waits already.
    pub(super) fn push(&mut self, due: Due) {
        if !self.has(&due.entry) {
            self.0.push_back(due);
        }
    }

    /// Before all others: it has had its turn and goes on.
    pub(super) fn push_first(&mut self, due: Due) {
        self.0.retain(|waiting| waiting.entry != due.entry);
        self.0.push_front(due);
    }

    /// The first one that is `free`: an entry that still runs waits for its own end and holds no other one up.
    pub(super) fn pop(&mut self, free: impl Fn(&str) -> bool) -> Option<Due> {
        let index = self.0.iter().position(|due| free(&due.entry))?;
        self.0.remove(index)
    }

    pub(super) fn has(&self, entry: &str) -> bool {
        self.0.iter().any(|due| due.entry == entry)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|due| keep(&due.entry));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(entry: &str) -> Due {
        Due { entry: entry.into(), trigger: Trigger::Start }
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
