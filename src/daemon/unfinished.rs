//! What a copy leaves in the journal for a later run: how far its uploads came, and which tags it was about to write. An upload that
//! cannot be kept or found costs bytes and no tag; an intent that cannot be recorded keeps its tag from being written.

use async_trait::async_trait;

use super::run::Run;
use crate::copy::event::Arrival;
use crate::copy::{Ledger, Surroundings, Unfinished};
use crate::journal::{Journal, JournalError, RunId, UploadRecord};
use crate::oci::{Digest, Digester};
use crate::store::{Standing, Suspended};

#[derive(Debug)]
struct Kept {
    journal: Journal,
    run: RunId,
    entry: String,
}

/// What a batch of this run belongs to.
pub(super) fn surroundings(
    run: &Run<'_>,
    events: tokio::sync::mpsc::Sender<crate::copy::event::Event>,
) -> Surroundings {
    let mut surroundings = Surroundings::from(events);
    surroundings.suspension = run.suspension.clone();
    if let (Some(journal), Some(id)) = (&run.engine.journal, run.id) {
        let entry = run.errand.entry.name.to_string();
        let kept = std::sync::Arc::new(Kept { journal: journal.clone(), run: id, entry });
        surroundings.unfinished = Some(kept.clone());
        surroundings.ledger = Some(kept);
    }
    surroundings
}

#[async_trait]
impl Unfinished for Kept {
    async fn recall(&self, target: &str, blob: Digest) -> Option<Suspended> {
        let left = self.journal.take_left_upload(self.run, target, blob).await;
        let UploadRecord { session, stored, hashed, .. } = left.unwrap_or_else(|error| {
            told(Err(error));
            None
        })?;
        let hashed = Digester::restored(&blob, &hashed)?;
        Some(Suspended { session, standing: Standing { stored, hashed } })
    }

    async fn keep(&self, target: &str, blob: Digest, left: Suspended) {
        let Suspended { session, standing: Standing { stored, hashed } } = left;
        let (target, hashed) = (target.to_owned(), hashed.saved());
        told(self.journal.note_upload(self.run, UploadRecord { target, digest: blob, session, stored, hashed }).await);
    }

    async fn forget(&self, target: &str, blob: Digest) {
        told(self.journal.forget_upload(target, blob).await);
    }
}

#[async_trait]
impl Ledger for Kept {
    async fn intend(&self, arrival: &Arrival) -> Result<(), String> {
        let recorded = self.journal.record_intent(self.run, &self.entry, arrival).await;
        recorded.map_err(|error| error.to_string())
    }
}

fn told(answer: Result<(), JournalError>) {
    if let Err(error) = answer {
        tracing::debug!(%error, "how far an upload came is not known to the journal");
    }
}
