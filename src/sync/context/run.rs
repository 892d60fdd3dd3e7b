//! State of a run in progress: the request for the run, and the results so far. At the end, the results become the
//! report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, RunRequest};
use super::staged_records::StagedRecords;
use crate::config::{Endpoint, Warning};
use crate::copy::Suspension;
use crate::copy::event::{Arrival, LeftBehind, PlannedBytes};
use crate::journal::RunId;
use crate::oci::{Digest, RegistryHost};
use crate::plan::Selected;
use crate::sync::endpoints::clients::RateLimited;
use crate::sync::report::log_lines::{log_left_behind, log_problem, log_tag, log_warning};
use crate::sync::report::repeated_failures::{LINES_PER_CLASS, RepeatedFailures};
use crate::sync::report::run_events::{RunEvent, RunObserver};
use crate::sync::report::run_report::{InDoubt, LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};
use crate::sync::selection::coverage::Coverage;
use crate::sync::selection::listing::Listing;

/// Maximum number of source repositories of one entry from which a run copies at the same time. The maximum bounds the
/// memory for manifests. A repository holds a permit from its first copy until all its tags are finished. A repository
/// without changes needs no permit.
const REPOSITORIES_COPYING: usize = 8;

/// Run in progress.
pub(crate) struct Run<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) request: &'a RunRequest,
    pub(crate) id: Option<RunId>,
    pub(crate) observer: &'a RunObserver,
    pub(crate) started: DateTime<Utc>,
    pub(crate) drain: &'a CancellationToken,
    /// Signal that suspends the uploads in progress.
    pub(crate) suspension: Suspension,
    pub(crate) progress: RunProgress,
    /// Journal records about archives. The run writes these records to the journal after the run has published the
    /// archives.
    pub(crate) staged: StagedRecords,
}

/// Results of a run so far, and the limit on its copies.
pub(crate) struct RunProgress {
    /// Limits the number of repositories that copy at the same time to [`REPOSITORIES_COPYING`].
    copying: Semaphore,
    /// Total size in bytes of the blobs that the run has sent or expects to send.
    pub(crate) planned: Arc<PlannedBytes>,
    /// True once the run has skipped a tag because of a stop signal.
    has_skipped_tags: AtomicBool,
    log: Mutex<RunLog>,
}

/// Results that become the report of a run.
#[derive(Debug, Default)]
struct RunLog {
    tags: Vec<TagReport>,
    problems: Vec<String>,
    left_behind: BTreeSet<LeftBehindReport>,
    repeated: RepeatedFailures,
    in_doubt: BTreeSet<InDoubt>,
    coverage: Coverage,
    warnings: Vec<Warning>,
}

impl Default for RunProgress {
    fn default() -> Self {
        let copying = Semaphore::new(REPOSITORIES_COPYING);
        Self { copying, planned: Arc::default(), has_skipped_tags: AtomicBool::new(false), log: Mutex::default() }
    }
}

impl Run<'_> {
    /// Adds the listed tags and the selected tags of one repository to the coverage. The coverage records which
    /// patterns of the entry match a tag or repository.
    pub(crate) fn add_coverage(&self, listing: &Listing, selected: &Selected) {
        self.progress.log.lock().coverage.add(&self.request.entry, listing, selected);
    }

    /// Adds one repository of a tree to the coverage, even if the entry does not select the repository. `name` is the
    /// part below the prefix: `app` for `team/app` in the tree `team/**`.
    pub(crate) fn add_repository(&self, name: &str) {
        self.progress.log.lock().coverage.add_repository(&self.request.entry, name);
    }

    /// Records that a part of the entry's source could not be listed.
    fn mark_coverage_partial(&self) {
        self.progress.log.lock().coverage.mark_partial();
    }

    /// Checks the coverage after all repositories have been listed. Records a warning for each pattern without a match.
    /// Records a problem if all repositories of a tree together have fewer tags than `at_least` requires.
    pub(crate) fn judge_coverage(&self) {
        let entry = &self.request.entry;
        let (warnings, shortfall) = {
            let log = self.progress.log.lock();
            (log.coverage.warnings(entry), log.coverage.shortfall(entry))
        };
        for warning in &warnings {
            log_warning(warning);
        }
        if let Some(shortfall) = shortfall {
            self.report_problem(format!("source {}: {shortfall}", entry.source));
        }
        self.progress.log.lock().warnings = warnings;
    }

    /// Waits until fewer than [`REPOSITORIES_COPYING`] repositories copy, and returns a permit for one repository.
    pub(crate) async fn acquire_copy_permit(&self) -> Option<SemaphorePermit<'_>> {
        // Never `None`, because nothing closes the semaphore.
        self.progress.copying.acquire().await.ok()
    }

    /// Returns true if the run has skipped a tag because of a stop signal.
    pub(crate) fn has_skipped_tags(&self) -> bool {
        self.progress.has_skipped_tags.load(Ordering::Relaxed)
    }

    /// Returns true if a stop signal forbids the start of more tags. In this case, also records that the run skips
    /// tags.
    pub(crate) fn is_draining(&self) -> bool {
        let draining = self.drain.is_cancelled() || self.suspension.is_suspended();
        self.progress.has_skipped_tags.fetch_or(draining, Ordering::Relaxed);
        draining
    }

    /// Records a failure that does not belong to a tag. If the run is being stopped, ignores the failure, because the
    /// stop is the likely cause.
    pub(crate) fn report_problem(&self, problem: String) {
        // Because of the failure, the run possibly did not list a part of the source.
        self.mark_coverage_partial();
        if !self.suspension.is_suspended() {
            self.record_problem(problem);
        }
    }

    /// Records a failure that does not belong to a tag, even if the run is being stopped.
    pub(crate) fn record_problem(&self, problem: String) {
        log_problem(&problem);
        self.progress.log.lock().problems.push(problem);
    }

    /// Notifies the observer that the run will report `tags` more outcomes. A tag has one outcome for each target.
    pub(crate) async fn report_tag_count(&self, tags: usize) {
        self.observer.notify(self.request.entry.name.as_str(), RunEvent::Chosen(tags as u64)).await;
    }

    /// Records and logs the outcome of a tag at one target, and sends the outcome to the observer. If the run is being
    /// stopped, ignores failures.
    pub(crate) async fn record_outcome(&self, report: TagReport) {
        if report.outcome.is_failure() && self.suspension.is_suspended() {
            return;
        }
        self.log_tag(&report);
        if report.outcome.is_change() {
            self.engine.record_quotas().await;
        }
        self.observer.notify(self.request.entry.name.as_str(), RunEvent::Tag(Box::new(report.clone()))).await;
        self.progress.log.lock().tags.push(report);
    }

    /// Logs the outcome of a tag. If the run has already logged [`LINES_PER_CLASS`] similar failures, logs nothing.
    fn log_tag(&self, report: &TagReport) {
        let is_new = match report.failure_class() {
            Some(class) => self.progress.log.lock().repeated.count_failure(class, report),
            None => true,
        };
        if is_new {
            log_tag(report);
        }
    }

    /// Records the referrers and signatures that the run did not copy with a digest. If several tags have this digest,
    /// the report contains each such referrer or signature once.
    pub(crate) fn record_left_behind(&self, arrival: &Arrival) {
        arrival.left_behind.iter().for_each(|item| self.add_left_behind(&arrival.source, &arrival.target, item));
    }

    /// Records a part of the entry's source that the run cannot read. The report contains this part once for each
    /// target.
    pub(crate) fn record_unread_part(&self, item: &LeftBehind) {
        self.mark_coverage_partial();
        let entry = &self.request.entry;
        let source = entry.source.to_string();
        entry.targets.iter().for_each(|target| self.add_left_behind(&source, &target.to_string(), item));
    }

    fn add_left_behind(&self, source: &str, target: &str, item: &LeftBehind) {
        let mut log = self.progress.log.lock();
        let report = LeftBehindReport { target: target.to_owned(), left: item.clone() };
        let count = log.left_behind.len();
        if log.left_behind.insert(report) && count < LINES_PER_CLASS {
            log_left_behind(source, target, item);
        }
    }

    /// Records the manifests whose referrers the run could not determine. `doubts` contains the reason for each
    /// manifest.
    pub(crate) fn record_doubts(&self, source: &str, doubts: BTreeMap<Digest, String>) {
        let in_doubt = |(digest, reason)| InDoubt { source: source.to_owned(), digest, reason };
        self.progress.log.lock().in_doubt.extend(doubts.into_iter().map(in_doubt));
    }

    /// Returns the registries of the entry that have rate-limited transship, with the end of each requested pause.
    fn rate_limited_registries(&self) -> Vec<RateLimited> {
        let entry = &self.request.entry;
        let hosts: Vec<&RegistryHost> =
            std::iter::once(&entry.source).chain(&entry.targets).filter_map(Endpoint::host).collect();
        let now = Utc::now();
        let mut limited: Vec<RateLimited> = self.engine.endpoints.rate_limited(now);
        limited.retain(|one| hosts.iter().any(|host| host.as_str() == one.registry));
        limited
    }

    /// Creates the report. If the run ended early, `cut_short` is its outcome, such as `TimedOut`.
    pub(crate) fn into_report(self, cut_short: Option<RunOutcome>) -> RunReport {
        let waiting_for = match cut_short {
            Some(RunOutcome::Interrupted | RunOutcome::TimedOut) => self.rate_limited_registries(),
            _ => Vec::new(),
        };
        let log = self.progress.log.into_inner();
        let RunLog { mut tags, problems, left_behind, repeated, in_doubt, warnings, coverage: _ } = log;
        repeated.log_rest();
        tags.sort_by(|a, b| (&a.source, &a.target, &a.tag, &a.digest).cmp(&(&b.source, &b.target, &b.tag, &b.digest)));
        let failed = !problems.is_empty() || tags.iter().any(|tag| tag.outcome.is_failure());
        let has_deferred_tags = tags.iter().any(|tag| matches!(tag.outcome, TagOutcome::Deferred { .. }));
        let outcome = cut_short.unwrap_or(match (failed, has_deferred_tags) {
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
            waiting_for,
        }
    }
}
