//! Table of the runs in progress, and the largest blobs in transfer.

use std::cmp::Reverse;
use std::time::Duration;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::condition::{Condition, throttling_registry};
use super::view::View;
use super::words::{
    format_clock, format_duration, render_bytes, render_distance, render_entry_link, render_reference, search_url,
};
use crate::status::{EntryState, RunningState, Snapshot, TransferState};

/// Maximum number of runs on the overview of all entries.
pub(super) const RUNS: usize = 3;

/// Maximum number of transfers that are shown: the largest ones.
const TRANSFERS: usize = 3;

/// Maximum number of runs on the overview of the running entries.
pub(super) const ALL_RUNS: usize = 100;

/// Renders the table of at most `at_most` runs and the table of transfers. An empty table is omitted.
pub(super) fn render_running(snapshot: &Snapshot, at_most: usize, now: DateTime<Utc>) -> Markup {
    let runs: Vec<_> = snapshot.entries.iter().filter(|entry| entry.running.is_some()).collect();
    html! {
        @if !runs.is_empty() {
            h2 #running { "Running now" }
            table .runs aria-labelledby="running" {
                thead { tr { th { "Entry" } th { "Since" } th { "Tags" } th { "Sent" } th { "Remaining time" } } }
                tbody { @for entry in runs.iter().take(at_most) { (render_run(entry, snapshot, now)) } }
            }
            @if runs.len() > at_most {
                p .quiet {
                    "And " (runs.len() - at_most) " more: see all "
                    a href=(View::with_condition(Condition::Running).address()) { "running entries" } "."
                }
            }
        }
        (render_transfers(snapshot))
    }
}

fn render_run(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    html! {
        tr {
            th scope="row" { (render_entry_link(&entry.name)) }
            @if let Some(running) = &entry.running {
                td data-name="Since" {
                    (render_distance(running.since, now)) " " small { (running.trigger.replace('_', " ")) }
                }
                td data-name="Tags" { (render_tags(running)) }
                td data-name="Sent" { (render_sent(running)) }
                td data-name="Remaining time" {
                    @match throttling_registry(entry, snapshot, now) {
                        Some((registry, until)) => {
                            span .warn-word {
                                "waits for " (registry.registry) " until " (format_clock(until, now)) " UTC"
                            }
                        }
                        None => { (render_remaining(running, now)) }
                    }
                }
            }
        }
    }
}

/// Renders the progress of a run in tags, without a percentage, because the number of tags may still grow.
fn render_tags(running: &RunningState) -> Markup {
    let processed = running.counts.total();
    html! {
        @match running.tags {
            None => { "listing tags" }
            Some(tags) => {
                progress value=(processed.min(tags)) max=(tags.max(1)) aria-label="processed tags" {}
                " " span .size { (processed) " of " (tags) } @if processed > 0 { " " small { (running.counts) } }
            }
        }
    }
}

fn render_sent(running: &RunningState) -> Markup {
    let expected = running.bytes_expected.filter(|expected| *expected > running.bytes_sent);
    html! {
        (render_bytes(running.bytes_sent))
        @if let Some(expected) = expected { " of " (render_bytes(expected)) }
        @if let Some(rate) = running.bytes_per_second.filter(|rate| *rate > 0) {
            " " small .size { (render_bytes(rate)) "/s" }
        }
    }
}

fn render_remaining(running: &RunningState, now: DateTime<Utc>) -> Markup {
    html! {
        @match estimate_remaining_time(running, now) {
            Some(remaining) => { "about " (format_duration(remaining)) }
            None => { span .quiet { "unknown" } }
        }
    }
}

/// Estimates the remaining time of a run: the time for the known bytes at the current rate, or the time for the tags at
/// the pace so far, whichever is longer. [`None`] if neither is known.
fn estimate_remaining_time(running: &RunningState, now: DateTime<Utc>) -> Option<Duration> {
    let left = running.bytes_expected.map_or(0, |expected| expected.saturating_sub(running.bytes_sent));
    let rate = running.bytes_per_second.filter(|rate| *rate > 0);
    let for_bytes = rate.filter(|_| left > 0).map(|rate| Duration::from_secs(left / rate));
    let processed = running.counts.total();
    let elapsed = (now - running.since).to_std().unwrap_or_default();
    let pace = |tags: u64| {
        let tags_left = u32::try_from(tags.checked_sub(processed)?).ok()?;
        let per_tag = elapsed.checked_div(u32::try_from(processed).ok()?)?;
        per_tag.checked_mul(tags_left)
    };
    let for_tags = running.tags.and_then(pace).filter(|time| !time.is_zero());
    for_bytes.into_iter().chain(for_tags).max()
}

fn render_transfers(snapshot: &Snapshot) -> Markup {
    let mut largest: Vec<&TransferState> = snapshot.in_flight.iter().collect();
    largest.sort_by_key(|blob| Reverse(blob.size));
    let all = usize::try_from(snapshot.transfers).unwrap_or(usize::MAX).max(largest.len());
    html! {
        @if !largest.is_empty() {
            h2 #transfers { "Transfers" }
            table .transfers aria-labelledby="transfers" {
                thead { tr { th { "Blob" } th { "From and to" } th { "Sent" } } }
                tbody { @for blob in largest.iter().take(TRANSFERS) { (render_transfer(blob)) } }
            }
            @if all > TRANSFERS {
                p .quiet { "The largest blobs. " (all - TRANSFERS) " more are in transfer." }
            }
        }
    }
}

fn render_transfer(blob: &TransferState) -> Markup {
    let percent = blob.sent.saturating_mul(100).checked_div(blob.size).unwrap_or(100).min(100);
    let digest = blob.digest.to_string();
    html! {
        tr {
            td data-name="Blob" { a .digest href=(search_url(&digest)) title=(digest) { (blob.digest.short()) } }
            td data-name="From" { (render_reference(&blob.source)) " → " (render_reference(&blob.target)) }
            td data-name="Sent" {
                progress value=(percent) max="100" aria-label={ "sent of " (blob.digest.short()) } {}
                " " span .size { (percent) "% of " (render_bytes(blob.size)) }
                @if let Some(rate) = blob.bytes_per_second { " " small .size { (render_bytes(rate)) "/s" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::TagCounts;
    use crate::oci::Digest;
    use crate::status::snapshot::tests::{second, working};

    fn run(unchanged: u64, tags: u64, bytes: [u64; 2], rate: Option<u64>) -> RunningState {
        RunningState {
            since: second(-60),
            trigger: "schedule".into(),
            counts: TagCounts { unchanged, ..TagCounts::default() },
            tags: Some(tags),
            bytes_sent: bytes[0],
            bytes_expected: Some(bytes[1]),
            bytes_per_second: rate,
        }
    }

    #[test]
    fn remaining_time_is_the_longer_of_both_estimates() {
        let estimate = |run: &RunningState| estimate_remaining_time(run, second(0)).map(|time| time.as_secs());
        assert_eq!(estimate(&run(6, 12, [0, 0], None)), Some(60), "by the pace of the tags");
        assert_eq!(estimate(&run(6, 12, [100, 1100], Some(10))), Some(100), "by the rate of the bytes");
        assert_eq!(estimate(&run(6, 12, [100, 1100], Some(100))), Some(60));
        assert_eq!(estimate(&run(0, 12, [0, 1000], None)), None, "nothing is known");
        assert_eq!(estimate(&run(12, 12, [5, 5], Some(9))), None, "nothing is left");
    }

    #[test]
    fn run_shows_total_rate_and_remaining_time() {
        let mut snapshot = working();
        snapshot.registries[0].paused_until = None;
        snapshot.entries[0].running = Some(run(6, 12, [1 << 20, 3 << 20], Some(1 << 10)));
        let page = render_running(&snapshot, RUNS, second(0)).into_string();
        for text in ["1.00 MiB</span> of <span class=\"size\">3.00 MiB", "1.00 KiB</span>/s", "about 34m"] {
            assert!(page.contains(text), "{text} is missing in {page}");
        }
        snapshot.registries[0].paused_until = Some(second(60));
        let page = render_running(&snapshot, RUNS, second(0)).into_string();
        assert!(page.contains("waits for docker.io until 08:01:00 UTC"), "{page}");
    }

    #[test]
    fn many_transfers_take_three_lines_the_largest_first() {
        let mut snapshot = working();
        let blob = snapshot.in_flight.remove(0);
        let sized = |size: u64| TransferState { size, digest: Digest::of(&size.to_be_bytes()), ..blob.clone() };
        snapshot.in_flight = (1..=64).map(sized).collect();
        snapshot.transfers = 74;
        let page = render_transfers(&snapshot).into_string();
        assert_eq!(page.matches("<progress").count(), TRANSFERS);
        assert!(page.contains("% of <span class=\"size\">64 B") && !page.contains(">61 B"), "{page}");
        assert!(page.contains("71 more are in transfer."), "{page}");
    }
}
