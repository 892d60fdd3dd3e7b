//! The table of entries, a part of it at a time, and the list of those that fail.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::state::{next_run, now_doing};
use super::words::{many, outcome, page_of, when};
use super::{chart, state};
use crate::journal::TagCounts;
use crate::status::history::{Marks, Unanswered};
use crate::status::{EntryState, FailedRun, LastRun, Snapshot};

/// How many entries a page has.
pub(super) const AT_ONCE: usize = 100;

/// How many failing entries are told of with their reasons.
const FAILING: usize = 20;

/// A part of the entries.
pub(super) struct Part<'a> {
    pub(super) entries: &'a [EntryState],
    /// From 1.
    pub(super) number: usize,
    pub(super) of: usize,
    all: usize,
}

impl<'a> Part<'a> {
    /// The part of this number, or the nearest that there is.
    pub(super) fn of(all: &'a [EntryState], number: usize) -> Self {
        let of = all.len().div_ceil(AT_ONCE).max(1);
        let number = number.clamp(1, of);
        let entries = all.chunks(AT_ONCE).nth(number - 1).unwrap_or_default();
        Self { entries, number, of, all: all.len() }
    }
}

/// The entries whose last run failed, with the reasons.
pub(super) fn failing(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let failing = state::failing(snapshot);
    html! {
        @if !failing.is_empty() {
            h2 #failing { "What fails" }
            table aria-labelledby="failing" {
                thead { tr { th { "Entry" } th { "Last failure" } th { "Reason" } th { "Next run" } } }
                tbody { @for entry in failing.iter().take(FAILING) { (failing_row(entry, now)) } }
            }
            @if failing.len() > FAILING { p .quiet { "And " (failing.len() - FAILING) " more, in the table below." } }
        }
    }
}

fn failing_row(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(page_of(&entry.name)) { (entry.name) } }
            td data-name="Last failure" {
                @if let Some(failed) = entry.last_failure { (when(failed, now)) }
                @if entry.failures > 1 { small { (entry.failures) " in a row" } }
            }
            td data-name="Reason" {
                @if let Some(run) = &entry.last_run {
                    (reason(run))
                    @if run.counts != TagCounts::default() { " " small { (run.counts) } }
                }
            }
            td data-name="Next run" { (next_run(entry, now)) }
        }
    }
}

pub(super) fn reason(run: &LastRun) -> Markup {
    html! {
        @match &run.error {
            Some(error) => { span .reason { (error) } }
            None => { (outcome(&run.outcome)) }
        }
    }
}

/// The table of a part, and the way to the others.
pub(super) fn table(
    part: &Part<'_>,
    marks: &Result<impl AsRef<Marks>, Unanswered>,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        h2 #entries { "Entries" }
        table aria-labelledby="entries" {
            caption {
                @if part.of > 1 { (part.all) " entries, part " (part.number) " of " (part.of) ". " }
                @match marks {
                    Ok(_) => { "History: a bar for each of the last runs, the latest at the right, by bytes sent; under a bar, × is a failure." }
                    Err(why) => { "No history: " (why) "." }
                }
            }
            thead { tr { th { "Entry" } th { "From and to" } th { "Now" } th { "Last run" } th { "Next run" } th { "History" } } }
            tbody { @for entry in part.entries { (row(entry, marks.as_ref().ok().map(AsRef::as_ref), snapshot, now)) } }
        }
        @if part.entries.is_empty() { p { "None." } }
        (others(part))
    }
}

fn row(entry: &EntryState, marks: Option<&Marks>, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(page_of(&entry.name)) { (entry.name) } }
            td data-name="From" { (way(&entry.source, &entry.targets)) }
            td data-name="Now" { (now_doing(entry, snapshot, now)) }
            td data-name="Last run" { (last_run(entry, now)) }
            td data-name="Next run" { (next_run(entry, now)) small { (entry.schedule) " " (entry.timezone) } }
            td { @if let Some(marks) = marks { (chart::small(marks.get(&entry.name).map_or(&[], Vec::as_slice), now)) } }
        }
    }
}

pub(super) fn way(source: &str, targets: &[String]) -> Markup {
    html! { (source) @for target in targets { br; "→ " (target) } }
}

fn last_run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        @match &entry.last_run {
            Some(run) => { (outcome(&run.outcome)) " " (when(run.ended, now)) small { (run.counts) } }
            None => { span .quiet { "none yet" } }
        }
    }
}

fn others(part: &Part<'_>) -> Markup {
    let address = |number: usize| format!("/?part={number}");
    html! {
        @if part.of > 1 {
            nav aria-label=(many(part.of, "part", "parts")) {
                @if part.number > 1 { a rel="prev" href=(address(part.number - 1)) { "Earlier entries" } }
                @if part.number < part.of { a rel="next" href=(address(part.number + 1)) { "Further entries" } }
            }
        }
    }
}

/// The last failures of all entries, also of those that are well again.
pub(super) fn recent(failures: &[FailedRun], now: DateTime<Utc>) -> Markup {
    html! {
        @if !failures.is_empty() {
            h2 #failures { "Last failures" }
            table aria-labelledby="failures" {
                caption { "Of all entries, also of those that are well again." }
                thead { tr { th { "Entry" } th { "Ended" } th { "Reason" } } }
                tbody { @for failure in failures {
                    tr {
                        th scope="row" { a href={ (page_of(&failure.entry)) "#run-" (failure.run) } { (failure.entry) } " " small { "run " (failure.run) } }
                        td data-name="Ended" { (when(failure.ended, now)) }
                        td data-name="Reason" { (outcome(&failure.outcome)) @if let Some(error) = &failure.error { " " small { (error) } } }
                    }
                } }
            }
        }
    }
}
