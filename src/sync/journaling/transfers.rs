//! Forwarding of the events of a copy to the journal and to the run's observer.

use std::collections::HashSet;

use chrono::Utc;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;

use super::evidence::{record_evidence, record_evidence_and_outcome, run_journal};
use crate::copy::event::Event;
use crate::journal::{Journal, JournalError, RunId, TransferState, TransferUpdate};
use crate::sync::context::run::Run;
use crate::sync::{RunEvent, TagOutcome};

/// Maximum number of events that a run receives in one step.
const EVENTS_AT_ONCE: usize = 64;

/// Records the events of a copy until the last sender is dropped. If the journal fails to record transfers, the run
/// reports only the first error.
pub(crate) async fn journal_transfers(run: &Run<'_>, mut events: mpsc::Receiver<Event>) {
    let mut notes = TransferUpdates::new(run_journal(run), |problem| run.report_problem(problem));
    let mut received = Vec::new();
    loop {
        tokio::select! {
            count = events.recv_many(&mut received, EVENTS_AT_ONCE) => {
                if count == 0 {
                    break;
                }
                notes.record(&received).await;
                forward_events(run, &mut received).await;
            }
            () = notes.confirm_next() => {}
        }
    }
    notes.finish().await;
}

/// Writer of transfer records. The writer sends each record to the journal and does not wait for the confirmation.
/// [`TransferUpdates::finish`] waits for all confirmations.
struct TransferUpdates<'a> {
    recorder: Option<(&'a Journal, RunId)>,
    unconfirmed: FuturesUnordered<BoxFuture<'static, Result<(), JournalError>>>,
    /// The targets for which this run has recorded a transfer.
    recorded_targets: HashSet<String>,
    problem: Option<Box<dyn FnOnce(String) + Send + 'a>>,
}

impl<'a> TransferUpdates<'a> {
    fn new(recorder: Option<(&'a Journal, RunId)>, problem: impl FnOnce(String) + Send + 'a) -> Self {
        let (unconfirmed, recorded_targets) = (FuturesUnordered::new(), HashSet::new());
        Self { recorder, unconfirmed, recorded_targets, problem: Some(Box::new(problem)) }
    }

    async fn record(&mut self, events: &[Event]) {
        let Some((journal, id)) = self.recorder else { return };
        let notes: Vec<TransferUpdate> = events.iter().filter_map(transfer_note).collect();
        if notes.is_empty() {
            return;
        }
        // A later run queries the journal for earlier transfers to a target. So the first record for a target must
        // survive a kill of this process. The journal writes this record immediately.
        let first = notes.iter().any(|note| !self.recorded_targets.contains(&note.transfer.target));
        self.recorded_targets.extend(notes.iter().filter(|_| first).map(|note| note.transfer.target.clone()));
        match journal.record_transfers(id, notes).await {
            Ok(confirmation) => self.unconfirmed.push(Box::pin(confirmation)),
            Err(error) => self.report_failure(Err(error)),
        }
        if first {
            self.report_failure(journal.write_notes().await);
        }
    }

    /// Waits for the next confirmation. If no confirmation is outstanding, waits for ever.
    async fn confirm_next(&mut self) {
        match self.unconfirmed.next().await {
            Some(confirmation) => self.report_failure(confirmation),
            None => future::pending().await,
        }
    }

    async fn finish(mut self) {
        if let Some((journal, _)) = self.recorder
            && !self.unconfirmed.is_empty()
        {
            self.report_failure(journal.write_notes().await);
        }
        while let Some(confirmation) = self.unconfirmed.next().await {
            self.report_failure(confirmation);
        }
    }

    /// Passes the first error to the callback, and ignores all later errors.
    fn report_failure(&mut self, result: Result<(), JournalError>) {
        if let Err(error) = result
            && let Some(problem) = self.problem.take()
        {
            problem(error.to_string());
        }
    }
}

fn transfer_note(event: &Event) -> Option<TransferUpdate> {
    let (transfer, state) = match event {
        Event::TransferStarted(transfer) => (transfer, TransferState::Started),
        Event::TransferFinished(transfer) => (transfer, TransferState::Finished),
        Event::TransferFailed(transfer, why) => (transfer, TransferState::Failed(why.clone())),
        Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_) => return None,
    };
    Some(TransferUpdate { transfer: transfer.clone(), state, at: Utc::now() })
}

/// Sends the transfers to the observer. Then records the evidence and outcome of each signature, and the evidence of
/// each auxiliary tag.
async fn forward_events(run: &Run<'_>, events: &mut Vec<Event>) {
    let (mut signatures, mut auxiliary) = (Vec::new(), Vec::new());
    for event in events.drain(..) {
        match event {
            Event::SignatureArrived(arrival) => signatures.push(arrival),
            Event::AuxiliaryTagWritten(arrival) => auxiliary.push(arrival),
            transfer => run.observer.notify(run.request.entry.name.as_str(), RunEvent::Transfer(transfer)).await,
        }
    }
    let signatures = future::join_all(
        signatures.iter().map(|arrival| record_evidence_and_outcome(run, arrival, TagOutcome::Copied)),
    );
    future::join(signatures, future::join_all(auxiliary.iter().map(|arrival| record_evidence(run, arrival)))).await;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::copy::event::Transfer;
    use crate::journal::{RunStart, Trigger};
    use crate::oci::Digest;

    async fn begin_run(journal: &Journal, entry: &str) -> RunId {
        let started = journal.begin_run(entry, Trigger::Manual, Utc::now()).await.unwrap();
        let RunStart::Started(run) = started else { panic!("{started:?}") };
        run
    }

    /// Reads the outcome of each transfer from the journal's file, as a different process would.
    fn outcomes(path: &Path) -> Vec<Option<String>> {
        let db = rusqlite::Connection::open(path).unwrap();
        let mut statement = db.prepare("SELECT outcome FROM transfers ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn first_transfer_to_a_target_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let run = begin_run(&journal, "a").await;
        let transfers = ["x", "y", "z"].map(|name| Transfer::new("s", "t", Digest::of(name.as_bytes()), 1));
        let [x, y, z] = &transfers;
        let mut notes = TransferUpdates::new(Some((&journal, run)), |problem| panic!("{problem}"));
        notes.record(&[Event::TransferStarted(x.clone())]).await;
        assert_eq!(outcomes(journal.path()), [None]);
        notes.record(&[Event::TransferStarted(y.clone()), Event::TransferFinished(x.clone())]).await;
        notes.record(&[Event::TransferStarted(z.clone()), Event::TransferFinished(z.clone())]).await;
        notes
            .record(&[Event::TransferFailed(y.clone(), "target: 500".into()), Event::TransferStarted(y.clone())])
            .await;
        notes.finish().await;
        let outcome = |outcome: &str| Some(outcome.to_owned());
        assert_eq!(outcomes(journal.path()), [outcome("finished"), outcome("failed"), outcome("finished"), None]);
    }

    #[tokio::test]
    async fn failed_transfer_records_are_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = |name: &str| Journal::open(&folder.path().join(name)).unwrap();
        let (journal, other) = (journal("journal.db"), journal("other.db"));
        let unknown = begin_run(&other, "a").await;
        let mut problems = Vec::new();
        let mut notes = TransferUpdates::new(Some((&journal, unknown)), |problem| problems.push(problem));
        for name in ["x", "y", "z"] {
            let transfer = Transfer::new("s", name, Digest::of(name.as_bytes()), 1);
            notes.record(&[Event::TransferStarted(transfer)]).await;
        }
        notes.finish().await;
        let path = journal.path().display();
        assert_eq!(problems, [format!("the journal {path}: FOREIGN KEY constraint failed")]);
    }
}
