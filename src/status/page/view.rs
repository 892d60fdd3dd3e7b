//! View of the entries on the overview: filter, order and part, as the address of the page states them
//! (`/?show=failing&sort=last-run&part=2`).

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use super::condition::Condition;
use crate::status::{EntryState, Snapshot};

/// Number of entries in a part.
pub(super) const AT_ONCE: usize = 100;

/// Order of the entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// The order of `sync.yaml`.
    #[default]
    Configured,
    Name,
    /// The latest run first; entries that never ran last.
    LastRun,
    /// The next run first; entries without a next run last.
    NextRun,
    /// The oldest success first; entries that never succeeded before all others.
    OldestSuccess,
}

impl Order {
    pub(super) const ALL: [Self; 5] = [Self::Configured, Self::Name, Self::LastRun, Self::NextRun, Self::OldestSuccess];

    /// Returns the word in the address of the page.
    fn word(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Name => "name",
            Self::LastRun => "last-run",
            Self::NextRun => "next-run",
            Self::OldestSuccess => "oldest-success",
        }
    }

    /// Returns the text of the link on the page.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Configured => "as in sync.yaml",
            Self::Name => "name",
            Self::LastRun => "last run",
            Self::NextRun => "next run",
            Self::OldestSuccess => "oldest success",
        }
    }

    fn sort(self, entries: &mut [&EntryState]) {
        match self {
            Self::Configured => {}
            Self::Name => entries.sort_by(|a, b| a.name.cmp(&b.name)),
            Self::LastRun => entries.sort_by_key(|entry| Reverse(entry.last_run.as_ref().map(|run| run.ended))),
            Self::NextRun => entries.sort_by_key(|entry| (entry.next_firing.is_none(), entry.next_firing)),
            Self::OldestSuccess => entries.sort_by_key(|entry| entry.last_success),
        }
    }
}

/// View of the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The condition of the shown entries; `None` for all entries.
    pub(super) condition: Option<Condition>,
    pub(super) order: Order,
    /// The number of the part, from 1; 0 also selects the first part.
    part: usize,
    /// The parameter that has no meaning, for a message on the page.
    pub(super) unknown: Option<String>,
}

impl View {
    /// Reads the query parameters of the overview. A parameter that cannot be read is reported on the page.
    pub(crate) fn from_query(show: Option<&str>, sort: Option<&str>, part: Option<&str>) -> Self {
        let mut view = Self { part: part.and_then(|part| part.parse().ok()).unwrap_or(1), ..Self::default() };
        if let Some(word) = show.filter(|word| !word.is_empty()) {
            view.condition = Condition::from_word(word);
            view.unknown = view.condition.is_none().then(|| format!("There is no filter “{word}”."));
        }
        if let Some(word) = sort.filter(|word| !word.is_empty()) {
            match Order::ALL.into_iter().find(|order| order.word() == word) {
                Some(order) => view.order = order,
                None => view.unknown = Some(format!("There is no order “{word}”.")),
            }
        }
        view
    }

    /// Returns the view of the entries with this condition.
    pub(super) fn with_condition(condition: Condition) -> Self {
        Self { condition: Some(condition), ..Self::default() }
    }

    /// Returns the same order with another filter, from the first part.
    pub(super) fn filtered(&self, condition: Option<Condition>) -> Self {
        Self { condition, order: self.order, ..Self::default() }
    }

    /// Returns the same filter with another order, from the first part.
    pub(super) fn ordered(&self, order: Order) -> Self {
        Self { condition: self.condition, order, ..Self::default() }
    }

    /// Returns the same filter and order at another part.
    pub(super) fn at_part(&self, part: usize) -> Self {
        Self { part, unknown: None, ..self.clone() }
    }

    /// Returns the address of the view, at the list of the entries.
    pub(super) fn address(&self) -> String {
        let mut parameters = Vec::new();
        parameters.extend(self.condition.map(|condition| format!("show={}", condition.word())));
        parameters.extend((self.order != Order::default()).then(|| format!("sort={}", self.order.word())));
        parameters.extend((self.part > 1).then(|| format!("part={}", self.part)));
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("/{mark}{}#entries", parameters.join("&"))
    }

    /// Selects the entries of the view. If there is no part with the number of the view, selects the nearest part.
    pub(super) fn select<'s>(&self, snapshot: &'s Snapshot, now: DateTime<Utc>) -> Selected<'s> {
        let is_shown =
            |entry: &&EntryState| self.condition.is_none_or(|condition| condition.applies_to(entry, snapshot, now));
        let mut entries: Vec<&EntryState> = snapshot.entries.iter().filter(is_shown).collect();
        self.order.sort(&mut entries);
        let (matching, parts) = (entries.len(), entries.len().div_ceil(AT_ONCE).max(1));
        let part = self.part.clamp(1, parts);
        let entries = entries.into_iter().skip((part - 1) * AT_ONCE).take(AT_ONCE).collect();
        Selected { entries, part, parts, matching }
    }
}

/// Entries of one part of a view.
#[derive(Debug)]
pub(super) struct Selected<'s> {
    pub(super) entries: Vec<&'s EntryState>,
    /// The number of the part, from 1.
    pub(super) part: usize,
    /// The number of parts.
    pub(super) parts: usize,
    /// The number of entries in all parts.
    pub(super) matching: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::{second, working};

    fn view(show: &str, sort: &str, part: &str) -> View {
        View::from_query(Some(show), Some(sort), Some(part))
    }

    /// Returns a snapshot of four entries: `d` runs, `b` is paused, `a` fails, `c` holds a tag and never succeeded.
    fn snapshot() -> Snapshot {
        let mut snapshot = working();
        let mut entry = snapshot.entries.remove(0);
        let running = entry.running.take();
        entry.last_run.as_mut().unwrap().outcome = "succeeded".into();
        for (number, name) in ["d", "b", "a", "c"].into_iter().enumerate() {
            let mut entry = EntryState { name: name.into(), ..entry.clone() };
            let minute = |minute: i64| second(60 * (minute * (number as i64 + 1)));
            entry.last_run.as_mut().unwrap().ended = minute(-1);
            entry.next_firing = (name != "b").then(|| minute(-1) + chrono::TimeDelta::hours(1));
            entry.last_success = (name != "c").then(|| minute(-1));
            snapshot.entries.push(entry);
        }
        snapshot.entries[0].running = running;
        snapshot.entries[1].paused_since = Some(second(-1));
        snapshot.entries[2].last_run.as_mut().unwrap().outcome = "timed_out".into();
        snapshot.entries[3].last_run.as_mut().unwrap().counts.held = 1;
        snapshot
    }

    fn names(view: &View) -> String {
        view.select(&snapshot(), second(0)).entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn filters_select_entries_by_their_condition() {
        for (show, expected) in [
            ("", "dbac"),
            ("running", "d"),
            ("paused", "b"),
            ("failing", "a"),
            ("held", "c"),
            ("never-matched", ""),
            ("waiting", "d"),
        ] {
            assert_eq!(names(&view(show, "", "")), expected, "{show}");
        }
    }

    #[test]
    fn orders_sort_entries_and_keep_unknown_times_apart() {
        for (sort, expected) in [
            ("configured", "dbac"),
            ("name", "abcd"),
            ("last-run", "dbac"),
            ("next-run", "cadb"),
            ("oldest-success", "cabd"),
        ] {
            assert_eq!(names(&view("", sort, "")), expected, "{sort}");
        }
    }

    #[test]
    fn address_states_filter_order_and_part_only_if_chosen() {
        assert_eq!(View::default().address(), "/#entries");
        let chosen = view("failing", "last-run", "2");
        assert_eq!(chosen.address(), "/?show=failing&sort=last-run&part=2#entries");
        assert_eq!(chosen.ordered(Order::Name).address(), "/?show=failing&sort=name#entries");
        assert_eq!(chosen.filtered(None).address(), "/?sort=last-run#entries");
        assert_eq!(chosen.at_part(3).address(), "/?show=failing&sort=last-run&part=3#entries");
    }

    #[test]
    fn unknown_filter_or_order_is_reported() {
        assert_eq!(view("odd", "", "").unknown.as_deref(), Some("There is no filter “odd”."));
        assert_eq!(view("held", "odd", "x").unknown.as_deref(), Some("There is no order “odd”."));
        assert_eq!(view("held", "name", "x").unknown, None);
    }
}
