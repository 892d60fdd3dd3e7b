//! Evidence that a tag or digest was written at a target.

use crate::copy::event::Arrival;
use crate::journal::{Journal, RunId};
use crate::sync::context::run::Run;
use crate::sync::report::run_report::{TagOutcome, TagReport};

/// Records the evidence that a tag or digest was written at a target, and the outcome.
pub(crate) async fn record_evidence_and_outcome(run: &Run<'_>, arrival: &Arrival, outcome: TagOutcome) {
    record_evidence(run, arrival).await;
    run.record_left_behind(arrival);
    run.record_outcome(TagReport::arrived(arrival, outcome)).await;
}

/// Records the evidence that a tag or digest was written at a target, without an outcome.
pub(super) async fn record_evidence(run: &Run<'_>, arrival: &Arrival) {
    if let Some((journal, id)) = run_journal(run)
        && let Err(error) = journal.record_arrival(id, run.request.entry.name.as_str(), arrival).await
    {
        run.report_problem(format!("{}: cannot record the evidence: {error}", arrival.target));
    }
}

/// Returns the journal, and the ID of the run in the journal. Returns `None` if the run is not recorded.
pub(super) fn run_journal<'a>(run: &'a Run<'_>) -> Option<(&'a Journal, RunId)> {
    Some((run.engine.journal.as_ref()?, run.id?))
}
