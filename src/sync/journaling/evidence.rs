//! Evidence that a tag or digest arrived at a target.

use crate::copy::event::Arrival;
use crate::journal::{Journal, RunId};
use crate::sync::context::run::Run;
use crate::sync::report::run_report::{TagOutcome, TagReport};

/// Records the evidence that a tag or digest arrived, and reports the outcome.
pub(crate) async fn settle_arrival(run: &Run<'_>, arrival: &Arrival, outcome: TagOutcome) {
    record_evidence(run, arrival).await;
    run.record_left_behind(arrival);
    run.settle(TagReport::arrived(arrival, outcome)).await;
}

/// Records only the evidence.
pub(super) async fn record_evidence(run: &Run<'_>, arrival: &Arrival) {
    if let Some((journal, id)) = run_journal(run)
        && let Err(error) = journal.record_arrival(id, run.request.entry.name.as_str(), arrival).await
    {
        run.report_problem(format!("{}: the evidence is not recorded: {error}", arrival.target));
    }
}

/// Returns the journal and the number of the run in it, if the run is recorded.
pub(super) fn run_journal<'a>(run: &'a Run<'_>) -> Option<(&'a Journal, RunId)> {
    Some((run.engine.journal.as_ref()?, run.id?))
}
