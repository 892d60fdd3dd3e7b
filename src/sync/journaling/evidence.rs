//! Evidence: journal records that a run wrote a tag or digest to a target. If the target is an archive (a tar file),
//! the run records the evidence after the publication of the archive at the end of the run. Until then, the journal
//! contains only the intent to write.

use super::derived_digests::DerivedDigests;
use crate::copy::event::Arrival;
use crate::journal::{Journal, ReferrerCheck, RunId};
use crate::oci::Digest;
use crate::store::{Side, Source as _, StoreError};
use crate::sync::context::run::Run;
use crate::sync::context::staged_records::StagedRecord;
use crate::sync::report::run_report::{TagOutcome, TagReport};

/// Records the evidence that a run wrote a tag or digest to a target, and adds the outcome to the report.
pub(crate) async fn record_evidence_and_outcome(run: &Run<'_>, arrival: &Arrival, outcome: TagOutcome) {
    record_or_stage(run, arrival, Some(outcome)).await;
}

/// Records the evidence that a run wrote a tag or digest to a target. Adds no outcome to the report.
pub(super) async fn record_evidence(run: &Run<'_>, arrival: &Arrival) {
    record_or_stage(run, arrival, None).await;
}

/// Records a check of the referrers of a digest at a source.
pub(crate) async fn record_check(journal: &Journal, source: &str, check: ReferrerCheck) {
    if let Err(error) = journal.record_referrer_check(source, check).await {
        tracing::warn!(%error, "cannot record the check of referrers: the next run checks again");
    }
}

/// Records the digest of the list of referrers at a target (`written`) after a copy of the source's list `listed`.
pub(crate) async fn record_referrers_list(run: &Run<'_>, target: String, listed: Digest, written: Digest) {
    if let Some(record) = run.staged.stage(StagedRecord::ReferrersList { target, listed, written }) {
        write(run, record).await;
    }
}

async fn record_or_stage(run: &Run<'_>, arrival: &Arrival, outcome: Option<TagOutcome>) {
    let record = StagedRecord::Evidence(Box::new(arrival.clone()), outcome);
    if let Some(record) = run.staged.stage(record) {
        write(run, record).await;
    }
}

/// Writes a record to the journal. If the record has an outcome, adds the outcome to the report.
async fn write(run: &Run<'_>, record_to_write: StagedRecord) {
    match record_to_write {
        StagedRecord::Evidence(arrival, outcome) => record(run, &arrival, outcome).await,
        StagedRecord::ReferrerCheck { source, check } => {
            if let Some(journal) = &run.engine.journal {
                record_check(journal, &source, *check).await;
            }
        }
        StagedRecord::ReferrersList { target, listed, written } => {
            let derived = DerivedDigests::new(run.engine.journal.clone(), None);
            derived.record_referrers(&target, listed, written).await;
        }
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

/// Publishes the archives to which a run has written, and then records the evidence. If a timeout or an immediate stop
/// ends the run, the run does not publish its archives.
pub(crate) async fn publish_archives(run: &Run<'_>) {
    for archive in run.engine.endpoints.archives(&run.request.entry.targets) {
        let published = archive.publish().await;
        let staged = run.staged.take(archive.place());
        let is_evidence = |record: &StagedRecord| matches!(record, StagedRecord::Evidence(_, Some(_)));
        if let (Err(error), false) = (&published, staged.iter().any(is_evidence)) {
            run.report_problem(format!("target {error}"));
        }
        for record in staged {
            match (&published, record) {
                (Ok(()), record) => write(run, record).await,
                (Err(error), StagedRecord::Evidence(arrival, outcome)) => {
                    record_failure(run, &arrival, outcome, error).await;
                }
                // The next run checks the referrers again.
                (Err(_), StagedRecord::ReferrerCheck { .. } | StagedRecord::ReferrersList { .. }) => {}
            }
        }
    }
}

/// Reports a tag as failed because its archive could not be published. The intent in the journal stays open, so the
/// next run checks the tag.
async fn record_failure(run: &Run<'_>, arrival: &Arrival, outcome: Option<TagOutcome>, error: &StoreError) {
    if outcome.is_some() {
        let failed = TagOutcome::failed_at(Side::Target, error);
        run.record_outcome(TagReport::arrived(arrival, failed)).await;
    }
}

/// Returns the journal, and the ID of the run in the journal. Returns `None` if the run is not recorded.
pub(super) fn run_journal<'a>(run: &'a Run<'_>) -> Option<(&'a Journal, RunId)> {
    Some((run.engine.journal.as_ref()?, run.id?))
}
