//! State of an entry in a few words: its activity and its next run.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::condition::{held_tags, throttling_registry};
use super::words::{format_clock, format_distance, render_distance};
use crate::status::{EntryState, Snapshot};

/// Renders the current activity of an entry, and the tags that the entry withholds.
pub(super) fn render_activity(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        @if let Some(running) = &entry.running {
            span .word .busy { "running" } " " small { "since " (format_distance(running.since, now)) }
            @if let Some((registry, until)) = throttling_registry(entry, snapshot, now) {
                small .warn-word { (registry.registry) " limits requests until " (format_clock(until, now)) " UTC" }
            }
        } @else if let Some(waiting) = snapshot.waiting.iter().find(|waiting| waiting.entry == entry.name) {
            span .word .busy { "waiting" } " " small { "for a slot, since " (format_distance(waiting.since, now)) }
        } @else if entry.paused_since.is_none() {
            span .quiet { "idle" }
        }
        @if let Some(paused) = entry.paused_since {
            " " span .word .warn-word { "paused" } " " small { (format_distance(paused, now)) }
        }
        @if let Some(until) = entry.deferred_until {
            " " small { "deferred tags resume at " (format_clock(until, now)) " UTC" }
        }
        @if held_tags(entry) > 0 {
            " " small .warn-word { (held_tags(entry)) " held" }
        }
        @if entry.never_matched { " " small .warn-word { "never matched" } }
    }
}

/// Renders the time of an entry's next automatic run. A paused entry has no next run until its pause ends.
pub(super) fn render_next_run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        @match (entry.paused_since, entry.paused_until, entry.next_firing) {
            (Some(_), Some(until), _) => { "after the pause, which ends " (render_distance(until, now)) }
            (Some(_), None, _) => { "after " code { "transship resume" } }
            (None, _, Some(next)) => { (render_distance(next, now)) }
            (None, _, None) => { "manual only" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::{second, working};

    fn next_run(entry: &EntryState) -> String {
        let rendered = render_next_run(entry, second(0)).into_string();
        regex::Regex::new("<[^>]+>").unwrap().replace_all(&rendered, "").into_owned()
    }

    #[test]
    fn paused_entry_runs_next_after_its_pause() {
        let mut entry = working().entries.remove(0);
        assert_eq!(next_run(&entry), "in 60m");
        entry.next_firing = None;
        assert_eq!(next_run(&entry), "manual only");
        entry.paused_since = Some(second(-60));
        assert_eq!(next_run(&entry), "after transship resume");
        entry.paused_until = Some(second(7200));
        assert_eq!(next_run(&entry), "after the pause, which ends in 2h");
    }
}
