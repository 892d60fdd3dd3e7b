//! What moves now: runs in progress and the blobs on their way.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{bytes, page_of, search_for, when};
use crate::status::{EntryState, RunningState, Snapshot, TransferState};

/// How many runs, and how many blobs, are shown.
const SHOWN: usize = 20;

/// Nothing where nothing moves.
pub(super) fn running(snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let runs: Vec<_> = snapshot.entries.iter().filter(|entry| entry.running.is_some()).collect();
    html! {
        @if !runs.is_empty() {
            h2 #running { "Running now" }
            table aria-labelledby="running" {
                thead { tr { th { "Entry" } th { "Since" } th { "Begun by" } th { "Tags" } th .number { "Sent" } } }
                tbody { @for entry in runs.iter().take(SHOWN) { (run(entry, now)) } }
            }
            (more(runs.len()))
        }
        @if !snapshot.in_flight.is_empty() {
            h2 #transfers { "On the way" }
            table aria-labelledby="transfers" {
                thead { tr { th { "Blob" } th { "From and to" } th { "Sent" } } }
                tbody { @for blob in snapshot.in_flight.iter().take(SHOWN) { (transfer(blob)) } }
            }
            (more(usize::try_from(snapshot.transfers).unwrap_or(usize::MAX)))
        }
    }
}

fn more(count: usize) -> Markup {
    html! { @if count > SHOWN { p .quiet { "And " (count - SHOWN) " more." } } }
}

fn run(entry: &EntryState, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(page_of(&entry.name)) { (entry.name) } }
            @if let Some(running) = &entry.running {
                td data-name="Since" { (when(running.since, now)) }
                td data-name="Begun by" { (running.trigger) }
                td data-name="Tags" { (settled(running)) }
                td .number data-name="Sent" { (bytes(running.bytes)) }
            }
        }
    }
}

/// How far a run is. What there is to settle may still grow, so that is not told in percent.
fn settled(running: &RunningState) -> Markup {
    let settled: u64 = running.counts.named().iter().map(|(_, count)| count).sum();
    html! {
        @match running.tags {
            None => { "looking for tags" }
            Some(tags) => {
                progress value=(settled.min(tags)) max=(tags.max(1)) aria-label="tags settled" {}
                " " (settled) " of " (tags) @if settled > 0 { small { (running.counts) } }
            }
        }
    }
}

fn transfer(blob: &TransferState) -> Markup {
    let percent = blob.sent.saturating_mul(100).checked_div(blob.size).unwrap_or(100).min(100);
    let digest = blob.digest.to_string();
    html! {
        tr {
            td data-name="Blob" { a .digest href=(search_for(&digest)) title=(digest) { (blob.digest.short()) } }
            td data-name="From" { (blob.source) br; "→ " (blob.target) }
            td data-name="Sent" {
                progress value=(percent) max="100" aria-label={ "sent of " (blob.digest.short()) } {}
                " " (percent) "% of " (bytes(blob.size))
                @if let Some(rate) = blob.bytes_per_second { small { (bytes(rate)) "/s" } }
            }
        }
    }
}
