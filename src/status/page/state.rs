//! How it is: of an entry in a word, of the whole in a sentence.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{clock, distance, many, page_of, when};
use crate::status::{EntryState, Snapshot};

/// How many entries the line of what comes next names.
const NEXT: usize = 3;

/// The entries whose last run failed, the latest failure first. A run that was only cut off goes on and is not counted.
pub(super) fn failing(snapshot: &Snapshot) -> Vec<&EntryState> {
    let mut failing: Vec<_> = snapshot.entries.iter().filter(|entry| is_failing(entry)).collect();
    failing.sort_by_key(|entry| std::cmp::Reverse(entry.last_failure));
    failing
}

pub(super) fn is_failing(entry: &EntryState) -> bool {
    entry.last_run.as_ref().is_some_and(|run| matches!(run.outcome.as_str(), "failed" | "timed_out"))
}

/// The whole in a few words, for the title of the window: empty when all is well.
pub(super) fn title(snapshot: &Snapshot) -> String {
    match (snapshot.obstacles().is_empty(), failing(snapshot).len()) {
        (false, _) => "not ready".to_owned(),
        (true, 0) if snapshot.configuration.problem.is_some() => "edit refused".to_owned(),
        (true, 0) => String::new(),
        (true, count) => format!("{count} failing"),
    }
}

/// The whole in a sentence, what is wrong with it, and what comes next.
pub(super) fn whole(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let (obstacles, failing) = (snapshot.obstacles(), failing(snapshot).len());
    let all = snapshot.entries.len();
    let (class, sentence) = match failing {
        _ if !obstacles.is_empty() => ("bad", format!("Not ready: {}", obstacles.join(", "))),
        1.. if all == 1 => ("bad", "The entry fails".to_owned()),
        1.. => ("bad", format!("{failing} of {all} entries {}", if failing == 1 { "fails" } else { "fail" })),
        0 if snapshot.configuration.problem.is_some() => ("warn", "The last edit was refused".to_owned()),
        0 => ("good", "All is well".to_owned()),
    };
    html! {
        section .state .(class) aria-labelledby="state" {
            h2 #state { (sentence) }
            p { (counts(snapshot)) (next(snapshot, now)) " " small { "As of " (now.format("%H:%M:%S")) "." } }
            @if let Some(problem) = &snapshot.configuration.problem {
                p .reason { "The last edit of the configuration was refused; the one before it goes on:" }
                pre { (problem) }
            }
        }
    }
}

fn counts(snapshot: &Snapshot) -> String {
    let running = snapshot.entries.iter().filter(|entry| entry.running.is_some()).count();
    let mut words = vec![many(snapshot.entries.len(), "entry", "entries"), format!("{running} running")];
    let paused = snapshot.entries.iter().filter(|entry| entry.paused_since.is_some()).count();
    for (count, word) in [(snapshot.waiting.len(), "waiting for a place"), (paused, "paused")] {
        if count > 0 {
            words.push(format!("{count} {word}"));
        }
    }
    format!("{}.", words.join(", "))
}

fn next(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let mut coming: Vec<_> = snapshot.entries.iter().filter_map(|entry| Some((entry.next_firing?, entry))).collect();
    coming.sort_by_key(|(at, entry)| (*at, &entry.name));
    html! {
        @if !coming.is_empty() { " Next: " }
        @for (place, (at, entry)) in coming.iter().take(NEXT).enumerate() {
            @if place > 0 { ", " }
            a href=(page_of(&entry.name)) { (entry.name) } " " (distance(*at, now))
        }
        @if !coming.is_empty() { "." }
    }
}

/// What an entry does now, in a word.
pub(super) fn now_doing(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        @if let Some(running) = &entry.running {
            span .word .busy { "running" } " " small { "since " (distance(running.since, now)) }
        } @else if let Some(waiting) = snapshot.waiting.iter().find(|waiting| waiting.entry == entry.name) {
            span .word .busy { "waiting" } " " small { "for a place, since " (distance(waiting.since, now)) }
        } @else if entry.paused_since.is_none() {
            "idle"
        }
        @if let Some(paused) = entry.paused_since {
            span .word .warn-word { "paused" } " " small { (distance(paused, now)) }
        }
        @if let Some(until) = entry.postponed_until {
            " " small { "tags wait until " (clock(until, now)) }
        }
    }
}

/// When it runs next by itself, and by which rule.
pub(super) fn next_run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        @match entry.next_firing {
            Some(next) => { (when(next, now)) }
            None => { "by hand only" }
        }
    }
}
