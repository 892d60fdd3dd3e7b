//! Passes the events of a copy on to the journal and to the front.

use std::collections::HashSet;

use chrono::Utc;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;

use super::run::Run;
use super::{Happening, TagOutcome, TagReport};
use crate::copy::event::{Arrival, Event};
use crate::journal::{Journal, JournalError, RunId, TransferNote, TransferState};

/// How many events are taken at once.
const AT_ONCE: usize = 64;

/// Until the last sender is gone. A transfer that cannot be recorded is a problem of the run, told once.
pub(super) async fn journal_transfers(run: &Run<'_>, mut events: mpsc::Receiver<Event>) {
    let mut notes = Notes::of(run);
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            count = events.recv_many(&mut taken, AT_ONCE) => {
                if count == 0 {
                    break;
                }
                notes.take(&taken).await;
                pass_on(run, &mut taken).await;
            }
            () = notes.hear() => {}
        }
    }
    notes.finish().await;
}

/// Keeps the evidence that a tag or digest arrived, and tells of it.
pub(super) async fn arrived(run: &Run<'_>, arrival: &Arrival, outcome: TagOutcome) {
    if let Some((journal, id)) = recorder(run)
        && let Err(error) = journal.record_arrival(id, run.errand.entry.name.as_str(), arrival).await
    {
        run.problem(format!("{}: the evidence is not recorded: {error}", arrival.target));
    }
    run.settle(TagReport::arrived(arrival, outcome)).await;
}

/// What the journal is to note of transfers, and has not answered yet. A run waits for an answer only at its end.
struct Notes<'a> {
    run: &'a Run<'a>,
    unanswered: FuturesUnordered<BoxFuture<'static, Result<(), JournalError>>>,
    /// The targets to which something is sent.
    begun: HashSet<String>,
    told: bool,
}

impl<'a> Notes<'a> {
    fn of(run: &'a Run<'a>) -> Self {
        Self { run, unanswered: FuturesUnordered::new(), begun: HashSet::new(), told: false }
    }

    async fn take(&mut self, events: &[Event]) {
        let Some((journal, id)) = recorder(self.run) else { return };
        let notes: Vec<TransferNote> = events.iter().filter_map(note).collect();
        if notes.is_empty() {
            return;
        }
        // A later run asks whether anything was ever sent to a target: should this one be killed, it has to be known.
        let first = notes.iter().any(|note| !self.begun.contains(&note.transfer.target));
        self.begun.extend(notes.iter().filter(|_| first).map(|note| note.transfer.target.clone()));
        match journal.note_transfers(id, notes).await {
            Ok(answer) => self.unanswered.push(Box::pin(answer)),
            Err(error) => self.tell(Err(error)),
        }
        if first {
            self.tell(journal.write_notes().await);
        }
    }

    /// The next answer; without end while there is none to come.
    async fn hear(&mut self) {
        match self.unanswered.next().await {
            Some(answer) => self.tell(answer),
            None => future::pending().await,
        }
    }

    async fn finish(mut self) {
        if let Some((journal, _)) = recorder(self.run)
            && !self.unanswered.is_empty()
        {
            self.tell(journal.write_notes().await);
        }
        while let Some(answer) = self.unanswered.next().await {
            self.tell(answer);
        }
    }

    fn tell(&mut self, answer: Result<(), JournalError>) {
        if let Err(error) = answer
            && !std::mem::replace(&mut self.told, true)
        {
            self.run.problem(error.to_string());
        }
    }
}

fn recorder<'a>(run: &'a Run<'_>) -> Option<(&'a Journal, RunId)> {
    Some((run.engine.journal.as_ref()?, run.id?))
}

fn note(event: &Event) -> Option<TransferNote> {
    let (transfer, state) = match event {
        Event::TransferStarted(transfer) => (transfer, TransferState::Started),
        Event::TransferFinished(transfer) => (transfer, TransferState::Finished),
        Event::TransferFailed(transfer, why) => (transfer, TransferState::Failed(why.clone())),
        // Told as a tag.
        Event::SignatureArrived(_) => return None,
    };
    Some(TransferNote { transfer: transfer.clone(), state, at: Utc::now() })
}

/// Tells the front of transfers, and settles the signatures among the events, all at once.
async fn pass_on(run: &Run<'_>, events: &mut Vec<Event>) {
    let mut signatures = Vec::new();
    for event in events.drain(..) {
        match event {
            Event::SignatureArrived(arrival) => signatures.push(arrival),
            transfer => run.front.tell(run.errand.entry.name.as_str(), Happening::Transfer(transfer)).await,
        }
    }
    future::join_all(signatures.iter().map(|arrival| arrived(run, arrival, TagOutcome::Copied))).await;
}
