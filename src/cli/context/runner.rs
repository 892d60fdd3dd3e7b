//! Runner of the commands that copy or plan: builds the engine and the run requests from a configuration, and draws
//! progress during the runs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use indicatif::MultiProgress;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::configuration;
use super::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::exit::Failure;
use crate::cli::output::progress::{Progress, REFRESH, Wait};
use crate::cli::output::writer;
use crate::config::Config;
use crate::journal::Journal;
use crate::sync::{Endpoints, Engine, RateLimited, RunEvent, RunObserver, RunReport, RunRequest, SingleCopy, Stop};

pub(crate) fn engine(config: &Config, journal: Option<Journal>) -> Engine {
    Engine::new(config, configuration::unlisted_options(), journal)
}

/// Returns a request for a manual run of each entry that the patterns select.
pub(crate) fn requests(config: &Config, patterns: &[EntryPattern]) -> Result<Vec<RunRequest>, Failure> {
    let chosen = configuration::select_entries(config, patterns)?;
    let is_chosen = |request: &RunRequest| chosen.iter().any(|entry| entry.name == request.entry.name);
    Ok(RunRequest::manual(config).into_iter().filter(is_chosen).collect())
}

/// Runs the entries, at most `at_once` at the same time, and shows progress on a terminal. After an interruption,
/// starts no more entries. Returns the reports in the order of the requests.
pub(crate) async fn run_all(
    engine: &Engine,
    requests: &[RunRequest],
    at_once: usize,
    context: &Context,
) -> Vec<RunReport> {
    let stop = Stop { now: context.interrupted.clone(), ..Stop::default() };
    let (observer, events) = RunObserver::new();
    let (bars, endpoints) = (context.bars.clone(), engine.endpoints.clone());
    let drawing = tokio::spawn(draw_progress(bars, endpoints, context.global.quiet, events));
    let started = stream::iter(requests).take_until(stop.now.cancelled());
    let reports = started.map(|request| run(engine, request, &observer, &stop)).buffered(at_once).collect().await;
    drop(observer);
    join_task(drawing).await;
    reports
}

/// Copies one manifest, and shows progress on a terminal.
pub(crate) async fn copy(engine: &Engine, request: RunRequest, single: SingleCopy, context: &Context) -> RunReport {
    let stop = Stop { now: context.interrupted.clone(), ..Stop::default() };
    let (observer, events) = RunObserver::new();
    let (bars, endpoints) = (context.bars.clone(), engine.endpoints.clone());
    let drawing = tokio::spawn(draw_progress(bars, endpoints, context.global.quiet, events));
    let engine = engine.clone();
    let report = join_task(tokio::spawn(async move { engine.copy(&request, &single, &observer, &stop).await })).await;
    join_task(drawing).await;
    report
}

/// Starts a run in a task on the worker threads of the runtime. On the main thread, each wake-up would cost system
/// calls.
fn run(
    engine: &Engine,
    request: &RunRequest,
    observer: &RunObserver,
    stop: &Stop,
) -> impl Future<Output = RunReport> + use<> {
    let (engine, request, observer, stop) = (engine.clone(), request.clone(), observer.clone(), stop.clone());
    join_task(tokio::spawn(async move { engine.run(&request, &observer, &stop).await }))
}

/// Waits for a task and returns its result. If the task panics, the caller panics too.
async fn join_task<T>(work: JoinHandle<T>) -> T {
    // Nothing aborts the task, so the error is a panic.
    work.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

/// Draws progress on a terminal until the last sender of events is dropped. With `-q` or without a terminal, discards
/// the events.
async fn draw_progress(
    bars: MultiProgress,
    endpoints: Arc<Endpoints>,
    is_quiet: bool,
    mut events: mpsc::Receiver<(String, RunEvent)>,
) {
    if is_quiet || !writer::stderr_is_terminal() {
        while events.recv().await.is_some() {}
        return;
    }
    let mut progress = Progress::on_stderr(&bars);
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => progress.refresh(&waits(&endpoints)),
            event = events.recv() => match event {
                Some((entry, event)) => progress.apply(&entry, event),
                None => break,
            },
        }
    }
    progress.clear();
}

/// Returns each registry that has throttled transship, with the time until transship sends the next request.
fn waits(endpoints: &Endpoints) -> Vec<Wait> {
    let now = Utc::now();
    let remaining = |until: DateTime<Utc>| (until - now).to_std().unwrap_or_default();
    let limited = endpoints.rate_limited(now).into_iter();
    limited.map(|RateLimited { registry, until }| Wait { registry, remaining: remaining(until) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "of the run")]
    async fn panic_in_a_run_reaches_the_command() {
        join_task(tokio::spawn(async { panic!("of the run") })).await
    }
}
