//! The page of one entry: what it is, its runs as a chart and in a table.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::chart;
use super::entries::way;
use super::frame::Frame;
use super::rules::rules;
use super::state::{is_failing, next_run, now_doing};
use super::warnings::warnings;
use super::words::{between, bytes, outcome_of, search_for, when};
use crate::config::{Config, Warning};
use crate::journal::{RunMark, RunRecord};
use crate::status::history::{Past, RUNS, Unanswered};
use crate::status::{EntryState, Snapshot};

/// The page of the entry of this name, [`None`] where the configuration has none.
pub(in crate::status) async fn entry(
    snapshot: &Snapshot,
    past: &Past,
    config: &Config,
    name: &str,
    now: DateTime<Utc>,
) -> Option<Markup> {
    let entry = snapshot.entries.iter().find(|entry| entry.name == name)?;
    let runs = past.runs(entry.name.clone()).await;
    let title = if is_failing(entry) { format!("{name}: failing") } else { name.to_owned() };
    let body = body(entry, &runs, config, snapshot, now);
    Some(Frame { title: &title, sought: "", renewed: true }.around(&body, snapshot, now))
}

fn body(
    entry: &EntryState,
    runs: &Result<Vec<RunRecord>, Unanswered>,
    config: &Config,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Markup {
    let of_entry: Vec<&Warning> =
        snapshot.warnings.iter().filter(|warning| warning.entry.as_ref() == Some(&entry.name)).collect();
    html! {
        (head(entry, snapshot, now))
        (warnings(&of_entry, false))
        // It may be of another moment than the snapshot.
        @if let Some(entry) = config.entries.iter().find(|known| known.name.as_str() == entry.name) {
            h2 #rules { "Rules" }
            dl { (rules(entry, config, snapshot)) }
        }
        h2 #history { "History" }
        @match runs {
            Err(why) => { p { "No history: " (why) "." } }
            Ok(runs) if runs.is_empty() => { p { "No runs yet." } }
            Ok(runs) => {
                @let marks: Vec<RunMark> = runs.iter().rev().map(RunMark::from).collect();
                (chart::large(&marks, now))
                p .quiet {
                    "A bar is a run, as high as the bytes that it sent (logarithmic). Under a bar: × failed, – interrupted, ○ postponed, ▹ running."
                }
                (table(runs, now))
            }
        }
    }
}

fn head(entry: &EntryState, snapshot: &Snapshot, now: DateTime<Utc>) -> Markup {
    let class = if is_failing(entry) { "bad" } else { "good" };
    html! {
        section .state .(class) aria-labelledby="entry" {
            h2 #entry { bdi { (entry.name) } @if is_failing(entry) { " fails" } }
            @if let Some(error) = entry.last_run.as_ref().filter(|_| is_failing(entry)).and_then(|run| run.error.as_ref()) {
                p .reason { (error) }
            }
            dl {
                dt { "From and to" } dd { (way(&entry.source, &entry.targets)) }
                dt { "Now" } dd { (now_doing(entry, snapshot, now)) }
                dt { "Next run" } dd { (next_run(entry, now)) }
                dt { "Schedule" } dd { (entry.schedule) " " span .quiet { (entry.timezone) } }
                @if let Some(success) = entry.last_success { dt { "Last success" } dd { (when(success, now)) } }
                @if let Some(failure) = entry.last_failure { dt { "Last failure" } dd { (when(failure, now)) } }
                @if entry.failures > 0 { dt { "Failed in a row" } dd { (entry.failures) } }
            }
            p { a href=(search_for(&entry.source)) { "What arrived from there" } }
        }
    }
}

fn table(runs: &[RunRecord], now: DateTime<Utc>) -> Markup {
    html! {
        table {
            caption {
                "The last " (runs.len()) " runs, the latest first."
                @if runs.len() >= RUNS as usize { " Earlier ones: transship history --entry." }
            }
            thead { tr {
                th { "Run" } th { "Began" } th { "Took" } th { "Begun by" } th { "Outcome" } th { "Tags" } th .number { "Sent" }
            } }
            tbody { @for run in runs { (row(run, now)) } }
        }
    }
}

fn row(run: &RunRecord, now: DateTime<Utc>) -> Markup {
    html! {
        tr id={ "run-" (run.id.number()) } {
            th scope="row" { (run.id.number()) }
            td data-name="Began" { (when(run.started, now)) }
            td data-name="Took" { @if let Some(ended) = run.ended { (between(run.started, ended)) } }
            td data-name="Begun by" { (run.trigger.word()) }
            td data-name="Outcome" {
                (outcome_of(run.outcome))
                @if let Some(error) = &run.error { " " small { (error) } }
            }
            td data-name="Tags" { @if run.ended.is_some() { (run.tags) } }
            td .number data-name="Sent" { @if run.ended.is_some() { (bytes(run.bytes)) } }
        }
    }
}
