//! Run of one entry. The run syncs all pairs of repositories of the entry concurrently, stops at the entry's timeout,
//! and records the result in the journal.

use std::panic::AssertUnwindSafe;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::single_copy::{SingleCopy, copy_single};
use crate::copy::Suspension;
use crate::copy::event::Event;
use crate::journal::{RunId, RunStart};
use crate::sync::context::engine::{Engine, RunRequest, Stop};
use crate::sync::context::run::{Run, RunProgress};
use crate::sync::context::staged_records::StagedRecords;
use crate::sync::endpoints::clients::OpenError;
use crate::sync::journaling::evidence::publish_archives;
use crate::sync::journaling::recovery::recover_evidence;
use crate::sync::journaling::transfers::journal_transfers;
use crate::sync::report::log_lines::{log_not_started, log_run_end};
use crate::sync::report::run_events::{RunEvent, RunObserver};
use crate::sync::report::run_report::{RunOutcome, RunReport};
use crate::sync::repository::pair_sync::sync_pair;
use crate::sync::selection::pairs::{Pair, list_pairs};

/// Maximum number of source repositories of one entry that a run queries at the same time.
const REPOSITORIES_AT_ONCE: usize = 32;

/// Error message of a run that panicked, without the message of the panic.
pub(crate) const RUN_PANICKED: &str = "a run failed because of a bug in transship: please report it";

impl Engine {
    /// Runs an entry. The returned report contains all errors. Not cancel safe: use `stop` to end the run early, so
    /// that the journal records the end.
    pub async fn run(&self, request: &RunRequest, observer: &RunObserver, stop: &Stop) -> RunReport {
        begin_and_run(self, request, None, observer, stop).await
    }

    /// Copies one manifest from the entry's source to the entry's target. In all other respects, this method is like
    /// [`Engine::run`].
    pub async fn copy(
        &self,
        request: &RunRequest,
        single: &SingleCopy,
        observer: &RunObserver,
        stop: &Stop,
    ) -> RunReport {
        begin_and_run(self, request, Some(single), observer, stop).await
    }
}

/// Records the start of a run in the journal, and runs the entry. If `single` is set, the run copies this manifest
/// instead of the entry's selection.
async fn begin_and_run(
    engine: &Engine,
    request: &RunRequest,
    single: Option<&SingleCopy>,
    observer: &RunObserver,
    stop: &Stop,
) -> RunReport {
    let started = Utc::now();
    let entry = request.entry.name.as_str();
    let id = match begin(engine, request, started).await {
        Ok(Ok(id)) => id,
        Ok(Err(already)) => return report_not_started(entry, started, already, None),
        Err(problem) => return report_not_started(entry, started, RunOutcome::Failed, Some(problem)),
    };
    let span = tracing::info_span!("run", entry, run = id.map(RunId::number));
    let run = Run {
        engine,
        request,
        id,
        observer,
        started,
        drain: &stop.drain,
        suspension: Suspension::default(),
        progress: RunProgress::default(),
        staged: StagedRecords::new(&request.entry),
    };
    observer.notify(entry, RunEvent::Started(run.progress.planned.clone())).await;
    let report = run_to_end(run, single, stop).instrument(span).await;
    observer.notify(entry, RunEvent::Ended).await;
    report
}

/// Runs an entry until it ends or is stopped, and creates the report. A panic becomes a problem in the report.
async fn run_to_end(run: Run<'_>, single: Option<&SingleCopy>, stop: &Stop) -> RunReport {
    let engine = run.engine;
    engine.load_quotas().await;
    let id = run.id;
    let archives = engine.endpoints.archives(&run.request.entry.targets);
    archives.iter().for_each(|archive| archive.enter());
    let cut_short = match catch_panic(run_until_stopped(&run, single, stop)).await {
        Ok(cut_short) => cut_short,
        Err(problem) => {
            run.record_problem(problem);
            None
        }
    };
    // If no other run writes to an archive, `leave` deletes the files that no run has published. The archive itself is
    // unchanged.
    join_all(archives.iter().map(|archive| archive.leave())).await;
    let report = run.into_report(cut_short);
    end(engine, id, report).await
}

/// Records the start of a run in the journal. The outer error is an error of the journal. If another process is running
/// the entry, the inner error is the outcome of this run.
async fn begin(
    engine: &Engine,
    request: &RunRequest,
    now: DateTime<Utc>,
) -> Result<Result<Option<RunId>, RunOutcome>, String> {
    let Some(journal) = &engine.journal else { return Ok(Ok(None)) };
    let started = journal.begin_run(request.entry.name.as_str(), request.trigger, now).await;
    match started.map_err(|error| error.to_string())? {
        RunStart::Started(id) => Ok(Ok(Some(id))),
        RunStart::AlreadyRunning { pid, since } => Ok(Err(RunOutcome::AlreadyRunning { pid, since })),
    }
}

/// Records the end of a run in the journal, and logs the end. If the journal cannot record the end, the run's outcome
/// becomes a failure.
async fn end(engine: &Engine, id: Option<RunId>, mut report: RunReport) -> RunReport {
    engine.record_quotas().await;
    if let (Some(journal), Some(id)) = (&engine.journal, id)
        && let Err(error) = journal.end_run(id, report.to_journal(), report.ended).await
    {
        report.problems.push(error.to_string());
        report.outcome = RunOutcome::Failed;
    }
    log_run_end(&report);
    report
}

/// Does the work of a run. If the timeout or `stop.now` ends the run early, each upload stops between two chunks, so
/// that the next run can resume the upload. Returns the outcome if the run ended early or skipped tags, and otherwise
/// `None`.
async fn run_until_stopped(run: &Run<'_>, single: Option<&SingleCopy>, stop: &Stop) -> Option<RunOutcome> {
    let timeout = async {
        match run.request.entry.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        recover_evidence(run).await;
        sync_pairs(run, single).await;
    };
    tokio::pin!(work);
    let cut_short = tokio::select! {
        () = &mut work => return run.has_skipped_tags().then_some(RunOutcome::Interrupted),
        () = timeout => RunOutcome::TimedOut,
        () = stop.now.cancelled() => RunOutcome::Interrupted,
    };
    tokio::select! {
        () = work => {}
        () = run.suspension.suspend() => {}
    }
    Some(cut_short)
}

/// Syncs the pairs of repositories of a run. If `single` is set, copies only this manifest. Records all transfers in
/// the journal, and publishes the archives.
async fn sync_pairs(run: &Run<'_>, single: Option<&SingleCopy>) {
    let (events, listener) = mpsc::channel(256);
    let copies = async {
        let events = events;
        match single {
            Some(single) => copy_single(run, single, events).await,
            None => {
                let pairs = list_run_pairs(run);
                pairs.for_each_concurrent(REPOSITORIES_AT_ONCE, |pair| sync_listed_pair(run, pair, &events)).await;
            }
        }
    };
    futures_util::join!(copies, journal_transfers(run, listener));
    publish_archives(run).await;
    if single.is_none() && run.request.only.is_none() {
        run.judge_coverage();
    }
}

/// Returns the pairs of repositories that a run syncs. In a run for pushed tags, returns only the pairs whose source
/// has a pushed tag.
fn list_run_pairs<'a>(run: &'a Run<'_>) -> BoxStream<'a, Result<Pair, OpenError>> {
    let entry = &run.request.entry;
    match &run.request.only {
        Some(only) => stream::iter(only.pairs(entry)).boxed(),
        None => list_pairs(entry, &run.engine.endpoints, Box::new(|name| run.add_repository(name))),
    }
}

async fn sync_listed_pair(run: &Run<'_>, pair: Result<Pair, OpenError>, events: &mpsc::Sender<Event>) {
    match pair {
        Ok(pair) => {
            let span = tracing::info_span!("repository", source = %pair.source);
            sync_pair(run, &pair, events.clone()).instrument(span).await;
        }
        Err(error) => match error.left_behind() {
            Some(item) => run.record_unread_part(&item),
            None => run.report_problem(error.with_side()),
        },
    }
}

/// Waits for `work` and turns a panic into an error. So the journal records the end of a run even after a panic.
/// Without this record, the entry would count as running until the process ends.
async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("{RUN_PANICKED}: {}", message.unwrap_or_default())
    })
}

/// Logs and reports a run that did not start.
fn report_not_started(entry: &str, started: DateTime<Utc>, outcome: RunOutcome, problem: Option<String>) -> RunReport {
    log_not_started(entry, &outcome, problem.as_deref());
    RunReport { problems: problem.into_iter().collect(), ..RunReport::new(entry, started, Utc::now(), outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_becomes_a_problem_of_its_run() {
        assert_eq!(catch_panic(async { 1 }).await, Ok(1));
        let number = 2;
        let expected = "a run failed because of a bug in transship: please report it: no 2";
        assert_eq!(catch_panic(async { panic!("no {number}") }).await, Err::<(), _>(expected.to_owned()));
    }
}
