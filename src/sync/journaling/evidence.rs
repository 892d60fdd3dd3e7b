//! Evidence that a tag or digest was written at a target. What a run writes to an archive becomes evidence once the
//! archive is published, at the end of the run. Until then, the journal has only the intent.

use crate::config::Endpoint;
use crate::copy::event::Arrival;
use crate::journal::{Journal, RunId};
use crate::store::{Side, StoreError};
use crate::sync::context::run::Run;
use crate::sync::report::run_report::{TagOutcome, TagReport};

/// Records the evidence that a tag or digest was written at a target, and the outcome.
pub(crate) async fn record_evidence_and_outcome(run: &Run<'_>, arrival: &Arrival, outcome: TagOutcome) {
    record_or_stage(run, arrival, Some(outcome)).await;
}

/// Records the evidence that a tag or digest was written at a target, without an outcome.
pub(super) async fn record_evidence(run: &Run<'_>, arrival: &Arrival) {
    record_or_stage(run, arrival, None).await;
}

async fn record_or_stage(run: &Run<'_>, arrival: &Arrival, outcome: Option<TagOutcome>) {
    if list_archives(run).any(|archive| archive.to_string() == arrival.target) {
        run.stage(arrival.clone(), outcome);
    } else {
        record(run, arrival, outcome).await;
    }
}

async fn record(run: &Run<'_>, arrival: &Arrival, outcome: Option<TagOutcome>) {
    if let Some((journal, id)) = run_journal(run)
        && let Err(error) = journal.record_arrival(id, run.request.entry.name.as_str(), arrival).await
    {
        run.report_problem(format!("{}: cannot record the evidence: {error}", arrival.target));
    }
    if let Some(outcome) = outcome {
        run.record_left_behind(arrival);
        run.record_outcome(TagReport::arrived(arrival, outcome)).await;
    }
}

/// Publishes the archives to which a run has written, and then records the evidence. A run that is stopped early does
/// not publish its archives.
pub(crate) async fn publish_archives(run: &Run<'_>) {
    for archive in list_archives(run) {
        let published = run.engine.endpoints.publish(archive).await;
        let staged = run.take_staged(&archive.to_string());
        if let (Err(error), true) = (&published, staged.is_empty()) {
            run.report_problem(format!("target {error}"));
        }
        for (arrival, outcome) in staged {
            match &published {
                Ok(()) => record(run, &arrival, outcome).await,
                Err(error) => record_failure(run, &arrival, outcome, error).await,
            }
        }
    }
}

/// Records that a tag is not in its archive, because the archive could not be published. The intent stays open, so the
/// next run checks the tag.
async fn record_failure(run: &Run<'_>, arrival: &Arrival, outcome: Option<TagOutcome>, error: &StoreError) {
    if outcome.is_some() {
        let failed = TagOutcome::failed_at(Side::Target, error);
        run.record_outcome(TagReport::arrived(arrival, failed)).await;
    }
}

fn list_archives<'a>(run: &'a Run<'_>) -> impl Iterator<Item = &'a Endpoint> {
    run.request.entry.targets.iter().filter(|target| matches!(target, Endpoint::Archive(_)))
}

/// Returns the journal, and the ID of the run in the journal. Returns `None` if the run is not recorded.
pub(super) fn run_journal<'a>(run: &'a Run<'_>) -> Option<(&'a Journal, RunId)> {
    Some((run.engine.journal.as_ref()?, run.id?))
}
