//! Log lines of a run: for the end of the run, for the outcome of each tag, and for each other fact of the report. All
//! log lines that repeat a fact of the report must be in this folder. If the log and the printed report go to the same
//! terminal, the command turns off the log lines of this folder.

use super::run_report::{RunOutcome, RunReport, TagOutcome, TagReport, conflict_message, format_instant};
use crate::config::Warning;
use crate::copy::event::LeftBehind;
use crate::journal::TagCounts;

/// Logs the end of a run in one line. The line has the counts of deferred, conflicting and failed tags only if the run
/// did not succeed.
pub(crate) fn log_run_end(report: &RunReport) {
    let outcome = report.journal_outcome().word();
    let seconds = (report.ended - report.started).num_milliseconds() as f64 / 1000.0;
    let TagCounts { copied, replaced, unchanged, held, blocked, deferred, conflict, failed } = report.counts();
    let has_succeeded = report.outcome == RunOutcome::Succeeded;
    let [deferred, conflict, failed] = [deferred, conflict, failed].map(|count| (!has_succeeded).then_some(count));
    let left_behind = Some(report.left_behind.len()).filter(|count| has_succeeded && *count > 0);
    let (bytes, problem) = (report.bytes(), report.first_problem());
    // An interrupted run needs no warning, because the next run resumes the work.
    let has_no_failure = has_succeeded && left_behind.is_none() || report.outcome == RunOutcome::Interrupted;
    if has_no_failure {
        tracing::info!(
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
        );
    } else {
        tracing::warn!(
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
            left_behind,
            bytes,
            problem,
            "run ended"
        );
    }
}

/// Logs a failure that does not belong to a tag.
pub(crate) fn log_problem(problem: &str) {
    tracing::error!(problem, "part of the run failed");
}

/// Logs a warning of the report.
pub(crate) fn log_warning(warning: &Warning) {
    tracing::warn!("{warning}");
}

/// Logs a referrer or signature that was not copied with its image.
pub(crate) fn log_left_behind(source: &str, target: &str, item: &LeftBehind) {
    let LeftBehind { what, reason } = item;
    tracing::warn!(source, target, what, reason, "left behind");
}

/// Logs the reason why a run did not start.
pub(crate) fn log_not_started(entry: &str, outcome: &RunOutcome, problem: Option<&str>) {
    if let RunOutcome::AlreadyRunning { pid, since } = outcome {
        tracing::warn!(
            entry,
            pid,
            since = format_instant(*since),
            "the entry is already running in another process; this run is skipped"
        );
    }
    if let Some(problem) = problem {
        tracing::error!(entry, problem, "the run cannot be recorded, so it does not start");
    }
}

/// Logs one line for the outcome of a tag. The line for an unchanged or deferred tag has the level debug. All other
/// lines have the level info or above.
pub(crate) fn log_tag(report: &TagReport) {
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
