//! Page of one entry: its state, its rules, and its runs as a chart and as a table.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::chart;
use super::condition::{Condition, is_failing};
use super::frame::Frame;
use super::rules::rules;
use super::state::{render_activity, render_next_run};
use super::warnings::warnings;
use super::words::{
    format_count, format_elapsed, render_bytes, render_name, render_route, render_run_outcome, render_time, search_url,
};
use crate::config::{Config, Warning};
use crate::journal::{RunMark, RunRecord};
use crate::status::history::{HistoryError, LimitedHistory, RUNS};
use crate::status::{EntryState, Snapshot};

/// Renders the page of the entry with this name; [`None`] if the snapshot has no such entry.
pub(crate) async fn entry(
    snapshot: &Snapshot,
    history: &LimitedHistory,
    config: &Config,
    name: &str,
    now: DateTime<Utc>,
) -> Option<Markup> {
    let entry = snapshot.entries.iter().find(|entry| entry.name == name)?;
    let runs = history.runs(entry.name.clone()).await;
    let title = if is_failing(entry) { format!("{name}: failing") } else { name.to_owned() };
    let body = body(entry, &runs, config, snapshot, now);
    Some(Frame { title: &title, search_text: "", refreshed: true }.wrap(&body, snapshot, now))
}

fn body(
    entry: &EntryState,
    runs: &Result<Vec<RunRecord>, HistoryError>,
    config: &Config,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    let of_entry: Vec<&Warning> =
        snapshot.warnings.iter().filter(|warning| warning.entry.as_ref() == Some(&entry.name)).collect();
    html! {
        (head(entry, snapshot, now))
        (warnings(&of_entry, false))
        // The configuration may be newer or older than the snapshot.
        @if let Some(entry) = config.entries.iter().find(|configured| configured.name.as_str() == entry.name) {
            h2 #rules { "Rules" }
            dl { (rules(entry, config, snapshot)) }
        }
        h2 #history { "History" }
        @match runs {
            Err(why) => { p { "No history: " (why) "." } }
            Ok(runs) if runs.is_empty() => { p { "No runs yet." } }
            Ok(runs) => {
                @let marks: Vec<RunMark> = runs.iter().rev().map(RunMark::from).collect();
                (chart::render_large(&marks, now))
                @if runs.len() > 1 {
                    p .quiet {
                    "Each bar is a run. Its height shows the bytes sent, on a logarithmic scale. "
                    "Under a bar: × failed, – interrupted, ○ deferred, ▹ running."
                    }
                }
                (table(runs, now))
            }
        }
    }
}

fn head(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let needs_attention = [Condition::Waiting, Condition::Held, Condition::Paused, Condition::NeverMatched];
    let class = match &entry.last_run {
        _ if is_failing(entry) => "bad",
        _ if needs_attention.iter().any(|condition| condition.applies_to(entry, snapshot, now)) => "warn",
        None => "unknown",
        Some(_) => "good",
    };
    html! {
        section .state .(class) aria-labelledby="entry" {
            h2 #entry { (render_name(&entry.name)) @if is_failing(entry) { " fails" } }
            @let last_run = entry.last_run.as_ref().filter(|_| is_failing(entry));
            @if let Some(error) = last_run.and_then(|run| run.error.as_ref()) {
                p .reason { (error) }
            }
            dl {
                dt { "From and to" } dd { (render_route(&entry.source, &entry.targets)) }
                dt { "Now" } dd { (render_activity(entry, snapshot, now)) }
                dt { "Next run" } dd { (render_next_run(entry, now)) }
                dt { "Schedule" } dd { (entry.schedule) " " span .quiet { (entry.timezone) } }
                @if let Some(success) = entry.last_success { dt { "Last success" } dd { (render_time(success, now)) } }
                @if let Some(failure) = entry.last_failure { dt { "Last failure" } dd { (render_time(failure, now)) } }
                @if entry.failures > 0 { dt { "Consecutive failures" } dd { (entry.failures) } }
            }
            p { a href=(search_url(&entry.source)) { "Arrivals from this source" } }
        }
    }
}

fn table(runs: &[RunRecord], now: DateTime<Utc>) -> Markup {
    html! {
        table .run-list {
            caption {
                (describe_runs(runs.len())) " Times are UTC."
                @if runs.len() >= RUNS as usize { " Earlier runs: transship history NAME." }
            }
            thead { tr {
                th { "Run" } th { "Started" } th { "Duration" } th { "Trigger" } th { "Outcome" } th { "Tags" }
                th .number { "Sent" }
            } }
            tbody { @for run in runs { (row(run, now)) } }
        }
    }
}

/// Returns the caption of the table of runs.
fn describe_runs(count: usize) -> String {
    match count {
        1 => "The only run so far.".to_owned(),
        count => format!("The last {}, the latest first.", format_count(count, "run", "runs")),
    }
}

fn row(run: &RunRecord, now: DateTime<Utc>) -> Markup {
    html! {
        tr id={ "run-" (run.id.number()) } {
            th scope="row" { (run.id.number()) }
            td data-name="Started" { (render_time(run.started, now)) }
            td data-name="Duration" { @if let Some(ended) = run.ended { (format_elapsed(run.started, ended)) } }
            td data-name="Trigger" { (run.trigger.word()) }
            td data-name="Outcome" {
                (render_run_outcome(run.outcome))
                @if let Some(error) = &run.error { " " small .error { (error) } }
            }
            td data-name="Tags" { @if run.ended.is_some() { (run.tags) } }
            td .number data-name="Sent" { @if run.ended.is_some() { (render_bytes(run.bytes)) } }
        }
    }
}
