//! Table of the causes of failures, each with its entries, and table of the failures of entries that have recovered.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::cause::Cause;
use super::condition::{Condition, is_failing};
use super::state::render_next_run;
use super::view::View;
use super::words::{entry_url, format_count, render_distance, render_entry_link, render_name, render_outcome};
use crate::journal::TagCounts;
use crate::status::{EntryState, FailedRun, Snapshot};

/// Maximum number of causes that are shown.
const CAUSES: usize = 10;

/// Maximum number of entries that are named for a cause.
const NAMED: usize = 8;

/// Renders the causes of the failures, or nothing if no entry fails.
pub(super) fn render_causes(causes: &[Cause<'_>], now: DateTime<Utc>) -> Markup {
    html! {
        @if !causes.is_empty() {
            h2 #failing { "Failing entries" }
            table .causes aria-labelledby="failing" {
                thead { tr { th { "Cause" } th { "Entries" } th { "Last failure" } th { "Next run" } } }
                tbody { @for cause in causes.iter().take(CAUSES) { (render_cause(cause, now)) } }
            }
            @if causes.len() > CAUSES {
                p .quiet {
                    "And " (format_count(causes.len() - CAUSES, "cause", "causes")) " more: see all "
                    a href=(View::with_condition(Condition::Failing).address()) { "failing entries" } "."
                }
            }
        }
    }
}

fn render_cause(cause: &Cause<'_>, now: DateTime<Utc>) -> Markup {
    let most = cause.entries.iter().map(|entry| entry.failures).max().unwrap_or_default();
    let next = cause.entries.iter().min_by_key(|entry| (entry.next_firing.is_none(), entry.next_firing));
    html! {
        tr {
            th scope="row" {
                span .cause { (cause.title) }
                @if let Some(error) = cause.error.filter(|error| *error != cause.title) {
                    small .error { (error) }
                }
            }
            td data-name="Entries" { (render_entries(&cause.entries)) }
            td data-name="Last failure" {
                @if let Some(failed) = cause.entries.first().and_then(|entry| entry.last_failure) {
                    (render_distance(failed, now))
                }
                @if most > 1 { " " small { @if cause.entries.len() > 1 { "up to " } (most) " in a row" } }
            }
            td data-name="Next run" { @if let Some(entry) = next { (render_next_run(entry, now)) } }
        }
    }
}

/// Renders the entries of a cause, or the name and the tags of its only entry.
fn render_entries(entries: &[&EntryState]) -> Markup {
    let counts = |entry: &EntryState| {
        entry.last_run.as_ref().map(|run| run.counts).filter(|counts| *counts != TagCounts::default())
    };
    html! {
        @if let [entry] = entries {
            (render_entry_link(&entry.name))
            @if let Some(counts) = counts(entry) { " " small { (counts) } }
        } @else {
            strong { (format_count(entries.len(), "entry", "entries")) } ": "
            @for (index, entry) in entries.iter().take(NAMED).enumerate() {
                @if index > 0 { ", " }
                (render_entry_link(&entry.name))
            }
            @if entries.len() > NAMED {
                " and "
                a href=(View::with_condition(Condition::Failing).address()) { (entries.len() - NAMED) " more" }
            }
        }
    }
}

/// Renders the last failures of entries that have recovered. Entries that still fail are in the table of causes.
pub(super) fn render_recovered(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let still_fails =
        |failure: &&FailedRun| snapshot.entries.iter().any(|entry| entry.name == failure.entry && is_failing(entry));
    let failures: Vec<_> = snapshot.recent_failures.iter().filter(|failure| !still_fails(failure)).collect();
    html! {
        @if !failures.is_empty() {
            h2 #failures { "Earlier failures" }
            table .causes aria-labelledby="failures" {
                caption { "Failed runs of entries that have recovered, or that are no longer configured." }
                thead { tr { th { "Entry" } th { "Ended" } th { "Reason" } } }
                tbody { @for failure in failures {
                    tr {
                        th scope="row" {
                            a href={ (entry_url(&failure.entry)) "#run-" (failure.run) } {
                                (render_name(&failure.entry))
                            }
                            " " small { "run " (failure.run) }
                        }
                        td data-name="Ended" { (render_distance(failure.ended, now)) }
                        td data-name="Reason" {
                            (render_outcome(&failure.outcome))
                            @if let Some(error) = &failure.error { small .error { (error) } }
                        }
                    }
                } }
            }
        }
    }
}
