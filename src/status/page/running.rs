//! Tables of the runs in progress and of the blobs in transfer.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{entry_url, format_bytes, render_time, search_url};
use crate::status::{EntryState, RunningState, Snapshot, TransferState};

/// Maximum number of runs, and of blobs, that are shown.
const SHOWN: usize = 20;

/// Renders the table of runs and the table of transfers. An empty table is omitted.
pub(super) fn running(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let runs: Vec<_> = snapshot.entries.iter().filter(|entry| entry.running.is_some()).collect();
    html! {
        @if !runs.is_empty() {
            h2 #running { "Running now" }
            table aria-labelledby="running" {
                thead { tr { th { "Entry" } th { "Since" } th { "Trigger" } th { "Tags" } th .number { "Sent" } } }
                tbody { @for entry in runs.iter().take(SHOWN) { (run_row(entry, now)) } }
            }
            (render_remainder(runs.len()))
        }
        @if !snapshot.in_flight.is_empty() {
            h2 #transfers { "Transfers" }
            table aria-labelledby="transfers" {
                thead { tr { th { "Blob" } th { "From and to" } th { "Sent" } } }
                tbody { @for blob in snapshot.in_flight.iter().take(SHOWN) { (transfer_row(blob)) } }
            }
            (render_remainder(usize::try_from(snapshot.transfers).unwrap_or(usize::MAX)))
        }
    }
}

fn render_remainder(count: usize) -> Markup {
    html! { @if count > SHOWN { p .quiet { "And " (count - SHOWN) " more." } } }
}

fn run_row(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(entry_url(&entry.name)) { (entry.name) } }
            @if let Some(running) = &entry.running {
                td data-name="Since" { (render_time(running.since, now)) }
                td data-name="Trigger" { (running.trigger) }
                td data-name="Tags" { (render_progress(running)) }
                td .number data-name="Sent" { (format_bytes(running.bytes_sent)) }
            }
        }
    }
}

/// Renders the progress of a run, without a percentage, because the number of tags may still grow.
fn render_progress(running: &RunningState) -> Markup {
    let processed: u64 = running.counts.named().iter().map(|(_, count)| count).sum();
    html! {
        @match running.tags {
            None => { "listing tags" }
            Some(tags) => {
                progress value=(processed.min(tags)) max=(tags.max(1)) aria-label="processed tags" {}
                " " (processed) " of " (tags) @if processed > 0 { small { (running.counts) } }
            }
        }
    }
}

fn transfer_row(blob: &TransferState) -> Markup {
    let percent = blob.sent.saturating_mul(100).checked_div(blob.size).unwrap_or(100).min(100);
    let digest = blob.digest.to_string();
    html! {
        tr {
            td data-name="Blob" { a .digest href=(search_url(&digest)) title=(digest) { (blob.digest.short()) } }
            td data-name="From" { (blob.source) br; "→ " (blob.target) }
            td data-name="Sent" {
                progress value=(percent) max="100" aria-label={ "sent of " (blob.digest.short()) } {}
                " " (percent) "% of " (format_bytes(blob.size))
                @if let Some(rate) = blob.bytes_per_second { small { (format_bytes(rate)) "/s" } }
            }
        }
    }
}
