//! Passes the events of a copy on to the journal and to the front.

use chrono::Utc;
use tokio::sync::mpsc;

use super::run::Run;
use super::{Happening, TagOutcome, TagReport};
use crate::copy::event::{Arrival, Event};

/// Until the last sender is gone. A transfer that cannot be recorded is a problem of the run, told once.
pub(super) async fn journal_transfers(run: &Run<'_>, mut events: mpsc::Receiver<Event>) {
    let mut told = false;
    while let Some(event) = events.recv().await {
        if let Event::SignatureArrived(arrival) = event {
            arrived(run, &arrival, TagOutcome::Copied).await;
            continue;
        }
        if let Err(error) = record(run, &event).await
            && !told
        {
            run.problem(error.to_string());
            told = true;
        }
        run.front.tell(run.errand.entry.name.as_str(), Happening::Transfer(event)).await;
    }
}

/// Keeps the evidence that a tag or digest arrived, and tells of it.
pub(super) async fn arrived(run: &Run<'_>, arrival: &Arrival, outcome: TagOutcome) {
    if let (Some(journal), Some(id)) = (&run.engine.journal, run.id)
        && let Err(error) = journal.record_arrival(id, run.errand.entry.name.as_str(), arrival).await
    {
        run.problem(format!("{}: the evidence is not recorded: {error}", arrival.target));
    }
    run.settle(TagReport::arrived(arrival, outcome)).await;
}

async fn record(run: &Run<'_>, event: &Event) -> Result<(), crate::journal::JournalError> {
    let (Some(journal), Some(id)) = (&run.engine.journal, run.id) else { return Ok(()) };
    let now = Utc::now();
    match event {
        Event::TransferStarted(transfer) => journal.transfer_started(id, transfer.clone(), now).await,
        Event::TransferFinished(transfer) => journal.transfer_finished(id, transfer.clone(), now).await,
        Event::TransferFailed(transfer, why) => journal.transfer_failed(id, transfer.clone(), why, now).await,
        // Told as a tag.
        Event::SignatureArrived(_) => Ok(()),
    }
}
