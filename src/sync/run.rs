//! Run of one entry: it syncs all pairs of repositories concurrently, under the entry's timeout, and records the result
//! in the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::coverage::Coverage;
use super::journaling::journal_transfers;
use super::listing::Listing;
use super::pairs::{Pair, pairs};
use super::recovery::recover_evidence;
use super::repeated_failures::{LINES_OF_A_KIND, RepeatedFailures};
use super::report::{conflict_message, told};
use super::repository_sync::work_pair;
use super::single::copy_single;
use super::{
    Endpoints, InDoubt, LeftBehindReport, RunEvent, RunObserver, RunOutcome, RunReport, SingleCopy, TagFilter,
    TagOutcome, TagReport,
};
use crate::config::{Config, Entry, Warning};
use crate::copy::event::{Arrival, LeftBehind};
use crate::copy::{Copier, Suspension};
use crate::journal::{Begun, Journal, Outcome, RunEnd, RunId, TagCounts, Trigger};
use crate::oci::Digest;
use crate::plan::Selected;
use crate::registry::Options;

/// Maximum number of repositories of one entry that are queried at once.
const REPOSITORIES_AT_ONCE: usize = 32;

/// Maximum number of them that copy at once. A repository that starts to copy keeps its slot until it is done: a copy
/// holds manifests in memory, and a repository without changes does not.
const REPOSITORIES_COPYING: usize = 8;

/// Message for a bug.
pub(crate) const BROKE_DOWN: &str = "a run broke down by a mistake in transship, not yours: please report it";

/// Shared services that runs need, for one configuration.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Copier that all runs of the process share.
    pub copier: Arc<Copier>,
    /// Registries and layouts.
    pub endpoints: Arc<Endpoints>,
    /// Journal. `None` if nothing is recorded: `copy` was asked not to record, or has no place for a journal.
    pub journal: Option<Journal>,
}

/// Request for a run.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Entry to run.
    pub entry: Arc<Entry>,
    /// All entries of the configuration. Some of them may claim the same tags.
    pub entries: Arc<Vec<Arc<Entry>>>,
    /// Reason for the run.
    pub trigger: Trigger,
    /// Tags that the run is confined to; `None` means all that the entry wants.
    pub only: Option<TagFilter>,
}

impl RunRequest {
    /// Returns requests for a manual run of every entry, in the order of the configuration.
    #[must_use]
    pub fn manual(config: &Config) -> Vec<Self> {
        let entries: Arc<Vec<_>> = Arc::new(config.entries.iter().cloned().map(Arc::new).collect());
        let request = |entry: &Arc<Entry>| Self {
            entry: entry.clone(),
            entries: entries.clone(),
            trigger: Trigger::Manual,
            only: None,
        };
        entries.iter().map(request).collect()
    }
}

/// Signals that end a run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Signal to drain: no further tag starts, and those in progress finish.
    pub drain: CancellationToken,
    /// Signal to drop everything. No tag moves half-way: the next run resumes.
    pub now: CancellationToken,
}

/// Run in progress.
pub(crate) struct Run<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a RunRequest,
    /// Single manifest to copy, instead of the entry's selection.
    single: Option<&'a SingleCopy>,
    pub(crate) id: Option<RunId>,
    pub(crate) observer: &'a RunObserver,
    pub(crate) started: DateTime<Utc>,
    copying: Semaphore,
    drain: &'a CancellationToken,
    /// Signal that suspends the uploads in progress.
    pub(crate) suspension: Suspension,
    left_out: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    tags: Vec<TagReport>,
    problems: Vec<String>,
    left_behind: BTreeSet<LeftBehindReport>,
    repeated: RepeatedFailures,
    in_doubt: BTreeSet<InDoubt>,
    coverage: Coverage,
    warnings: Vec<Warning>,
}

impl Engine {
    /// Creates the engine of a configuration. `unlisted` are the options of registries that the configuration does not
    /// name. Sends no request.
    #[must_use]
    pub fn new(config: &Config, unlisted: Options, journal: Option<Journal>) -> Self {
        let endpoints = Endpoints::new(config.registries.clone(), unlisted).within(config.daemon.bandwidth.clone());
        Self { copier: Copier::new(config.daemon.memory), endpoints: Arc::new(endpoints), journal }
    }

    /// Runs an entry. It never fails: errors are in the report. Not cancel safe: use `stop`, so that the journal
    /// records the end.
    pub async fn run(&self, request: &RunRequest, observer: &RunObserver, stop: &Stop) -> RunReport {
        self.begin_and_run(request, None, observer, stop).await
    }

    /// Copies one manifest from the entry's source to its target. In all other respects it is a run of the entry, as
    /// [`Engine::run`].
    pub async fn copy(
        &self,
        request: &RunRequest,
        single: &SingleCopy,
        observer: &RunObserver,
        stop: &Stop,
    ) -> RunReport {
        self.begin_and_run(request, Some(single), observer, stop).await
    }

    async fn begin_and_run(
        &self,
        request: &RunRequest,
        single: Option<&SingleCopy>,
        observer: &RunObserver,
        stop: &Stop,
    ) -> RunReport {
        let started = Utc::now();
        let entry = request.entry.name.as_str();
        let id = match self.begin(request, started).await {
            Ok(Ok(id)) => id,
            Ok(Err(already)) => return empty_report(entry, started, already, None),
            Err(problem) => return empty_report(entry, started, RunOutcome::Failed, Some(problem)),
        };
        let span = tracing::info_span!("run", entry, run = id.map(RunId::number));
        let run = Run {
            engine: self,
            request,
            single,
            id,
            observer,
            started,
            copying: Semaphore::new(REPOSITORIES_COPYING),
            drain: &stop.drain,
            suspension: Suspension::default(),
            left_out: AtomicBool::new(false),
            log: Mutex::default(),
        };
        self.run_to_its_end(run, stop).instrument(span).await
    }

    async fn run_to_its_end(&self, run: Run<'_>, stop: &Stop) -> RunReport {
        self.recall_quotas().await;
        let id = run.id;
        let cut_short = match caught(run.until_stopped(stop)).await {
            Ok(cut_short) => cut_short,
            Err(problem) => {
                run.note(problem);
                None
            }
        };
        let report = run.into_report(cut_short);
        self.end(id, report).await
    }

    async fn begin(
        &self,
        request: &RunRequest,
        now: DateTime<Utc>,
    ) -> Result<Result<Option<RunId>, RunOutcome>, String> {
        let Some(journal) = &self.journal else { return Ok(Ok(None)) };
        let begun = journal.begin_run(request.entry.name.as_str(), request.trigger, now).await;
        match begun.map_err(|error| error.to_string())? {
            Begun::Started(id) => Ok(Ok(Some(id))),
            Begun::AlreadyRunning { pid, since } => Ok(Err(RunOutcome::AlreadyRunning { pid, since })),
        }
    }

    async fn end(&self, id: Option<RunId>, mut report: RunReport) -> RunReport {
        self.note_quotas().await;
        if let (Some(journal), Some(id)) = (&self.journal, id)
            && let Err(error) = journal.end_run(id, report.to_journal(), report.ended).await
        {
            report.problems.push(error.to_string());
            report.outcome = RunOutcome::Failed;
        }
        log_end(&report);
        report
    }
}

impl Run<'_> {
    /// Runs everything until it ends or is cut short. A run that is cut short ends between two chunks, at which an
    /// upload can be resumed.
    async fn until_stopped(&self, stop: &Stop) -> Option<RunOutcome> {
        let timeout = async {
            match self.request.entry.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let everything = async {
            recover_evidence(self).await;
            self.all_pairs().await;
        };
        tokio::pin!(everything);
        let cut_short = tokio::select! {
            () = &mut everything => return self.left_out.load(Ordering::Relaxed).then_some(RunOutcome::Interrupted),
            () = timeout => RunOutcome::TimedOut,
            () = stop.now.cancelled() => RunOutcome::Interrupted,
        };
        tokio::select! {
            () = everything => {}
            () = self.suspension.suspend() => {}
        }
        Some(cut_short)
    }

    async fn all_pairs(&self) {
        let (events, listener) = tokio::sync::mpsc::channel(256);
        let work = async {
            let events = events;
            match self.single {
                Some(single) => copy_single(self, single, events).await,
                None => {
                    let pairs = self.pairs();
                    pairs.for_each_concurrent(REPOSITORIES_AT_ONCE, |pair| self.one_pair(pair, &events)).await;
                }
            }
        };
        futures_util::join!(work, journal_transfers(self, listener));
        if self.single.is_none() && self.request.only.is_none() {
            self.judge_coverage();
        }
    }

    /// Adds the part of the entry's selection that one repository has.
    pub(crate) fn covers(&self, listing: &Listing, selected: &Selected) {
        self.log.lock().coverage.add(&self.request.entry, listing, selected);
    }

    /// Records that a part of the entry's source could not be listed.
    fn covers_not_all(&self) {
        self.log.lock().coverage.miss();
    }

    /// Records the selected items that no repository had, after all have been listed.
    fn judge_coverage(&self) {
        let entry = &self.request.entry;
        let (warnings, shortfall) = {
            let log = self.log.lock();
            (log.coverage.warnings(entry), log.coverage.shortfall(entry))
        };
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if let Some(shortfall) = shortfall {
            self.problem(format!("source {}: {shortfall}", entry.source));
        }
        self.log.lock().warnings = warnings;
    }

    fn pairs(&self) -> BoxStream<'_, Result<Pair, super::OpenError>> {
        let entry = &self.request.entry;
        match &self.request.only {
            Some(only) => stream::iter(only.pairs(entry).into_iter().map(Ok)).boxed(),
            None => pairs(entry, &self.engine.endpoints),
        }
    }

    async fn one_pair(
        &self,
        pair: Result<Pair, super::OpenError>,
        events: &tokio::sync::mpsc::Sender<crate::copy::event::Event>,
    ) {
        match pair {
            Ok(pair) => {
                let span = tracing::info_span!("repository", source = %pair.source);
                work_pair(self, &pair, events.clone()).instrument(span).await;
            }
            Err(error) => self.problem(format!("source {error}")),
        }
    }

    /// Waits until one more repository may copy.
    pub(crate) async fn enter_copying(&self) -> Option<SemaphorePermit<'_>> {
        // Nothing closes the semaphore. If it were closed, no repository would wait any more.
        self.copying.acquire().await.ok()
    }

    /// Returns true if no further tag may start.
    pub(crate) fn is_draining(&self) -> bool {
        let draining = self.drain.is_cancelled() || self.suspension.is_suspended();
        self.left_out.fetch_or(draining, Ordering::Relaxed);
        draining
    }

    /// Records a failure that does not belong to a tag.
    pub(crate) fn problem(&self, problem: String) {
        // Any failure may have kept a part of the source from being listed.
        self.covers_not_all();
        if !self.suspension.is_suspended() {
            self.note(problem);
        }
    }

    /// Records a failure that does not belong to a tag, even if the run is cut short.
    fn note(&self, problem: String) {
        tracing::error!(problem, "part of the run failed");
        self.log.lock().problems.push(problem);
    }

    /// Reports the number of further tags that are to be settled.
    pub(crate) async fn chosen(&self, tags: usize) {
        self.observer.tell(self.request.entry.name.as_str(), RunEvent::Chosen(tags as u64)).await;
    }

    /// Records the outcome of a tag.
    pub(crate) async fn settle(&self, report: TagReport) {
        if report.outcome.is_failure() && self.suspension.is_suspended() {
            return;
        }
        self.log_tag(&report);
        if report.outcome.is_change() {
            self.engine.note_quotas().await;
        }
        self.observer.tell(self.request.entry.name.as_str(), RunEvent::Tag(Box::new(report.clone()))).await;
        self.log.lock().tags.push(report);
    }

    /// Logs the line of a tag, unless many of its class were logged before.
    fn log_tag(&self, report: &TagReport) {
        let is_new = match report.failure_class() {
            Some(class) => self.log.lock().repeated.take(class, report),
            None => true,
        };
        if is_new {
            log_tag(report);
        }
    }

    /// Records the items that belong to an arrived digest and were left behind. Tags of one digest leave the same items
    /// behind; each is recorded once.
    pub(crate) fn leave_behind(&self, arrival: &Arrival) {
        let mut log = self.log.lock();
        for left in &arrival.left_behind {
            let LeftBehind { what, reason } = left;
            let report = LeftBehindReport { target: arrival.target.clone(), left: left.clone() };
            let count = log.left_behind.len();
            if log.left_behind.insert(report) && count < LINES_OF_A_KIND {
                tracing::warn!(source = arrival.source, target = arrival.target, what, reason, "left behind");
            }
        }
    }

    /// Records the manifests of a source of which the referrers could not be determined.
    pub(crate) fn doubt(&self, source: &str, doubts: BTreeMap<Digest, String>) {
        let told = |(digest, reason)| InDoubt { source: source.to_owned(), digest, reason };
        self.log.lock().in_doubt.extend(doubts.into_iter().map(told));
    }

    fn into_report(self, cut_short: Option<RunOutcome>) -> RunReport {
        let log = self.log.into_inner();
        let Log { mut tags, problems, left_behind, repeated, in_doubt, warnings, coverage: _ } = log;
        repeated.log_rest();
        tags.sort_by(|a, b| (&a.source, &a.target, &a.tag, &a.digest).cmp(&(&b.source, &b.target, &b.tag, &b.digest)));
        let failed = !problems.is_empty() || tags.iter().any(|tag| tag.outcome.is_failure());
        let waits = tags.iter().any(|tag| matches!(tag.outcome, TagOutcome::Deferred { .. }));
        let outcome = cut_short.unwrap_or(match (failed, waits) {
            (true, _) => RunOutcome::Failed,
            (false, true) => RunOutcome::Deferred,
            (false, false) => RunOutcome::Succeeded,
        });
        RunReport {
            entry: self.request.entry.name.to_string(),
            run: self.id.map(|id| id.number()),
            started: self.started,
            ended: Utc::now(),
            outcome,
            tags,
            problems,
            left_behind: left_behind.into_iter().collect(),
            in_doubt: in_doubt.into_iter().collect(),
            warnings,
        }
    }
}

/// Does work that may panic, so that the journal records the end of its run in any case. Otherwise the entry would
/// count as running for as long as the process lives.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("{BROKE_DOWN}: {}", said.unwrap_or_default())
    })
}

/// Logs one line for a run, independent of its outcome.
fn log_end(report: &RunReport) {
    let outcome = report.journal_outcome().word();
    let seconds = (report.ended - report.started).num_milliseconds() as f64 / 1000.0;
    let TagCounts { copied, replaced, unchanged, held, blocked, deferred, conflict, failed } = report.counts();
    let bytes = report.bytes();
    let problem = report.first_problem();
    let left_behind = report.left_behind.len();
    match report.outcome {
        RunOutcome::Succeeded if left_behind > 0 => tracing::warn!(
            outcome,
            seconds,
            copied,
            replaced,
            unchanged,
            held,
            blocked,
            left_behind,
            bytes,
            problem,
            "run ended"
        ),
        RunOutcome::Succeeded => {
            tracing::info!(outcome, seconds, copied, replaced, unchanged, held, blocked, bytes, "run ended");
        }
        // The cause is a pause, an edit or the end of the daemon: the run resumes later.
        RunOutcome::Interrupted => tracing::info!(
            outcome,
            seconds,
            copied,
            replaced,
            unchanged,
            held,
            blocked,
            deferred,
            conflict,
            failed,
            bytes,
            problem,
            "run ended"
        ),
        _ => tracing::warn!(
            outcome,
            seconds,
            copied,
            replaced,
            unchanged,
            held,
            blocked,
            deferred,
            conflict,
            failed,
            bytes,
            problem,
            "run ended"
        ),
    }
}

/// Logs one line at info level or above for a change or a failure, and only a debug line for an unchanged or deferred
/// tag.
fn log_tag(report: &TagReport) {
    let TagReport { source, target, .. } = report;
    let tag = report.tag.as_ref().map(tracing::field::display);
    let digest = report.digest.map(tracing::field::display);
    match &report.outcome {
        TagOutcome::Copied => tracing::info!(source, target, tag, digest, bytes = report.bytes, "copied"),
        TagOutcome::Replaced { previous, .. } => {
            tracing::info!(source, target, tag, digest, %previous, bytes = report.bytes, "replaced");
        }
        TagOutcome::Unchanged => tracing::debug!(source, target, tag, digest, "unchanged"),
        TagOutcome::Held { reason } => tracing::warn!(source, target, tag, digest, reason, "held"),
        TagOutcome::Blocked { reason } => tracing::warn!(source, target, tag, digest, reason, "blocked"),
        TagOutcome::Deferred { reason, .. } => tracing::debug!(source, target, tag, digest, reason, "deferred"),
        TagOutcome::Conflict { entries } => {
            tracing::error!(source, target, tag, problem = conflict_message(report, entries), "conflict");
        }
        TagOutcome::Failed { message, .. } => tracing::error!(source, target, tag, digest, problem = message, "failed"),
    }
}

fn empty_report(entry: &str, started: DateTime<Utc>, outcome: RunOutcome, problem: Option<String>) -> RunReport {
    if let RunOutcome::AlreadyRunning { pid, since } = &outcome {
        tracing::warn!(entry, pid, since = told(*since), "the entry runs already in another process and is left alone");
    }
    if let Some(problem) = &problem {
        tracing::error!(entry, problem, "the run cannot be recorded, so it does not begin");
    }
    RunReport {
        entry: entry.to_owned(),
        run: None,
        started,
        ended: Utc::now(),
        outcome,
        tags: Vec::new(),
        problems: problem.into_iter().collect(),
        left_behind: Vec::new(),
        in_doubt: Vec::new(),
        warnings: Vec::new(),
    }
}

impl RunReport {
    /// Returns the number of tags by outcome.
    #[must_use]
    pub fn counts(&self) -> TagCounts {
        let mut counts = TagCounts::default();
        self.tags.iter().for_each(|tag| tag.outcome.count_in(&mut counts));
        counts
    }

    /// Returns the outcome in the journal's terms.
    #[must_use]
    pub fn journal_outcome(&self) -> Outcome {
        match self.outcome {
            RunOutcome::Succeeded | RunOutcome::AlreadyRunning { .. } => Outcome::Succeeded,
            RunOutcome::Failed => Outcome::Failed,
            RunOutcome::Deferred => Outcome::Deferred,
            RunOutcome::TimedOut => Outcome::TimedOut,
            RunOutcome::Interrupted => Outcome::Interrupted,
        }
    }

    fn to_journal(&self) -> RunEnd {
        RunEnd {
            outcome: self.journal_outcome(),
            tags: self.counts(),
            bytes: self.bytes(),
            error: self.first_problem(),
            deferred_until: self.deferred_until(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_down_is_a_problem_of_its_run() {
        assert_eq!(caught(async { 1 }).await, Ok(1));
        let number = 2;
        let expected = "a run broke down by a mistake in transship, not yours: please report it: no 2";
        assert_eq!(caught(async { panic!("no {number}") }).await, Err::<(), _>(expected.to_owned()));
    }
}
