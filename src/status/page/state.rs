//! State of an entry in a word, and state of the daemon in a sentence.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{entry_url, format_clock, format_count, format_distance, render_time};
use crate::status::{EntryState, Snapshot};

/// Maximum number of entries in the line of next runs.
const NEXT: usize = 3;

/// Returns the entries whose last run failed, the latest failure first. Interrupted runs do not count as failures,
/// because they resume.
pub(super) fn failing(snapshot: &Snapshot) -> Vec<&EntryState> {
    let mut failing: Vec<_> = snapshot.entries.iter().filter(|entry| is_failing(entry)).collect();
    failing.sort_by_key(|entry| std::cmp::Reverse(entry.last_failure));
    failing
}

/// Returns true if the last run of the entry failed.
pub(super) fn is_failing(entry: &EntryState) -> bool {
    entry.last_run.as_ref().is_some_and(|run| matches!(run.outcome.as_str(), "failed" | "timed_out"))
}

/// Returns the overall state for the window's title; empty if there is no problem.
pub(super) fn title(snapshot: &Snapshot) -> String {
    match (snapshot.obstacles().is_empty(), failing(snapshot).len()) {
        (false, _) => "not ready".to_owned(),
        (true, 0) if snapshot.configuration.problem.is_some() => "edit rejected".to_owned(),
        (true, 0) => String::new(),
        (true, count) => format!("{count} failing"),
    }
}

/// Renders the overall state as a sentence, with the problem and the next runs.
pub(super) fn render_state(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let (obstacles, failing) = (snapshot.obstacles(), failing(snapshot).len());
    let all = snapshot.entries.len();
    let (class, sentence) = match failing {
        _ if !obstacles.is_empty() => ("bad", format!("Not ready: {}", obstacles.join(", "))),
        1.. if all == 1 => ("bad", "The entry fails".to_owned()),
        1.. => ("bad", format!("{failing} of {all} entries {}", if failing == 1 { "fails" } else { "fail" })),
        0 if snapshot.configuration.problem.is_some() => ("warn", "The last edit was rejected".to_owned()),
        0 => ("good", "All is well".to_owned()),
    };
    html! {
        section .state .(class) aria-labelledby="state" {
            h2 #state { (sentence) }
            p {
                (count_entries(snapshot)) (render_next_runs(snapshot, now))
                " " small { "As of " (now.format("%H:%M:%S")) "." }
            }
            @if let Some(problem) = &snapshot.configuration.problem {
                p .reason { "The last edit of the configuration was rejected; the previous one stays active:" }
                pre { (problem) }
            }
        }
    }
}

fn count_entries(snapshot: &Snapshot) -> String {
    let running = snapshot.entries.iter().filter(|entry| entry.running.is_some()).count();
    let mut words = vec![format_count(snapshot.entries.len(), "entry", "entries"), format!("{running} running")];
    let paused = snapshot.entries.iter().filter(|entry| entry.paused_since.is_some()).count();
    for (count, word) in [(snapshot.waiting.len(), "waiting for a slot"), (paused, "paused")] {
        if count > 0 {
            words.push(format!("{count} {word}"));
        }
    }
    format!("{}.", words.join(", "))
}

fn render_next_runs(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let mut coming: Vec<_> = snapshot.entries.iter().filter_map(|entry| Some((entry.next_firing?, entry))).collect();
    coming.sort_by_key(|(at, entry)| (*at, &entry.name));
    html! {
        @if !coming.is_empty() { " Next: " }
        @for (index, (at, entry)) in coming.iter().take(NEXT).enumerate() {
            @if index > 0 { ", " }
            a href=(entry_url(&entry.name)) { (entry.name) } " " (format_distance(*at, now))
        }
        @if !coming.is_empty() { "." }
    }
}

/// Renders the current activity of an entry.
pub(super) fn render_activity(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        @if let Some(running) = &entry.running {
            span .word .busy { "running" } " " small { "since " (format_distance(running.since, now)) }
        } @else if let Some(waiting) = snapshot.waiting.iter().find(|waiting| waiting.entry == entry.name) {
            span .word .busy { "waiting" } " " small { "for a slot, since " (format_distance(waiting.since, now)) }
        } @else if entry.paused_since.is_none() {
            "idle"
        }
        @if let Some(paused) = entry.paused_since {
            span .word .warn-word { "paused" } " " small { (format_distance(paused, now)) }
        }
        @if let Some(until) = entry.deferred_until {
            " " small { "deferred tags resume at " (format_clock(until, now)) }
        }
    }
}

/// Renders the time of an entry's next automatic run.
pub(super) fn render_next_run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        @match entry.next_firing {
            Some(next) => { (render_time(next, now)) }
            None => { "manual only" }
        }
    }
}
