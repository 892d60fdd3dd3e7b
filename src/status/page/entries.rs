//! Table of the entries, which shows one part of the entries at a time, and the list of failing entries.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::state::{render_activity, render_next_run};
use super::words::{entry_url, format_count, render_outcome, render_time};
use super::{chart, state};
use crate::journal::TagCounts;
use crate::status::history::{HistoryError, Marks};
use crate::status::{EntryState, FailedRun, LastRun, Snapshot};

/// Number of entries in a part.
pub(super) const AT_ONCE: usize = 100;

/// Maximum number of failing entries that are listed with their reasons.
const FAILING: usize = 20;

/// Part of the entries, as one page shows it.
pub(super) struct Part<'a> {
    pub(super) entries: &'a [EntryState],
    /// The number of the part, from 1.
    pub(super) number: usize,
    /// The number of parts.
    pub(super) count: usize,
    /// The number of entries in all parts.
    all: usize,
}

impl<'a> Part<'a> {
    /// Returns the part with this number, or the nearest part if there is none with this number.
    pub(super) fn from_number(all: &'a [EntryState], number: usize) -> Self {
        let count = all.len().div_ceil(AT_ONCE).max(1);
        let number = number.clamp(1, count);
        let entries = all.chunks(AT_ONCE).nth(number - 1).unwrap_or_default();
        Self { entries, number, count, all: all.len() }
    }
}

/// Renders the entries whose last run failed, with the reasons.
pub(super) fn failing(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let failing = state::failing(snapshot);
    html! {
        @if !failing.is_empty() {
            h2 #failing { "Failing entries" }
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
            th scope="row" { a href=(entry_url(&entry.name)) { (entry.name) } }
            td data-name="Last failure" {
                @if let Some(failed) = entry.last_failure { (render_time(failed, now)) }
                @if entry.failures > 1 { small { (entry.failures) " in a row" } }
            }
            td data-name="Reason" {
                @if let Some(run) = &entry.last_run {
                    (reason(run))
                    @if run.counts != TagCounts::default() { " " small { (run.counts) } }
                }
            }
            td data-name="Next run" { (render_next_run(entry, now)) }
        }
    }
}

/// Renders the error of a run, or its outcome if there is no error.
pub(super) fn reason(run: &LastRun) -> Markup {
    html! {
        @match &run.error {
            Some(error) => { span .reason { (error) } }
            None => { (render_outcome(&run.outcome)) }
        }
    }
}

/// Renders the table of a part, with links to the other parts.
pub(super) fn table(
    part: &Part<'_>,
    marks: &Result<impl AsRef<Marks>, HistoryError>,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    html! {
        h2 #entries { "Entries" }
        table aria-labelledby="entries" {
            caption {
                @if part.count > 1 { (part.all) " entries, part " (part.number) " of " (part.count) ". " }
                @match marks {
                    Ok(_) => {
                        "History: one bar for each run, the latest at the right. Its height shows the bytes sent. "
                        "× under a bar: the run failed."
                    }
                    Err(why) => { "No history: " (why) "." }
                }
            }
            thead { tr {
                th { "Entry" } th { "From and to" } th { "Now" } th { "Last run" } th { "Next run" } th { "History" }
            } }
            tbody { @for entry in part.entries { (row(entry, marks.as_ref().ok().map(AsRef::as_ref), snapshot, now)) } }
        }
        @if part.entries.is_empty() { p { "No entries." } }
        (render_part_links(part))
    }
}

fn row(entry: &EntryState, marks: Option<&Marks>, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(entry_url(&entry.name)) { (entry.name) } }
            td data-name="From" { (render_route(&entry.source, &entry.targets)) }
            td data-name="Now" { (render_activity(entry, snapshot, now)) }
            td data-name="Last run" { (last_run(entry, now)) }
            td data-name="Next run" { (render_next_run(entry, now)) small { (entry.schedule) " " (entry.timezone) } }
            td {
                @if let Some(marks) = marks {
                    (chart::render_small(marks.get(&entry.name).map_or(&[], Vec::as_slice), now))
                }
            }
        }
    }
}

pub(super) fn render_route(source: &str, targets: &[String]) -> Markup {
    html! { (source) @for target in targets { br; "→ " (target) } }
}

fn last_run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        @match &entry.last_run {
            Some(run) => { (render_outcome(&run.outcome)) " " (render_time(run.ended, now)) small { (run.counts) } }
            None => { span .quiet { "none yet" } }
        }
    }
}

fn render_part_links(part: &Part<'_>) -> Markup {
    let address = |number: usize| format!("/?part={number}");
    html! {
        @if part.count > 1 {
            nav aria-label=(format_count(part.count, "part", "parts")) {
                @if part.number > 1 { a rel="prev" href=(address(part.number - 1)) { "Earlier entries" } }
                @if part.number < part.count { a rel="next" href=(address(part.number + 1)) { "Further entries" } }
            }
        }
    }
}

/// Renders the last failures of all entries, including entries that have recovered.
pub(super) fn recent(failures: &[FailedRun], now: DateTime<Utc>) -> Markup {
    html! {
        @if !failures.is_empty() {
            h2 #failures { "Last failures" }
            table aria-labelledby="failures" {
                caption { "The last failed runs of all entries, including entries that have recovered." }
                thead { tr { th { "Entry" } th { "Ended" } th { "Reason" } } }
                tbody { @for failure in failures {
                    tr {
                        th scope="row" {
                            a href={ (entry_url(&failure.entry)) "#run-" (failure.run) } { (failure.entry) }
                            " " small { "run " (failure.run) }
                        }
                        td data-name="Ended" { (render_time(failure.ended, now)) }
                        td data-name="Reason" {
                            (render_outcome(&failure.outcome))
                            @if let Some(error) = &failure.error { " " small { (error) } }
                        }
                    }
                } }
            }
        }
    }
}
