//! Records that a copy writes to the journal for a later run:
//! - Progress of each upload. If such a record cannot be written or read, no tag fails: a later run sends the bytes
//!   again.
//! - Intent to write a tag. If an intent cannot be recorded, the tag is not written.

use std::time::Duration;

use async_trait::async_trait;

use crate::copy::event::Arrival;
use crate::copy::{Ledger, Surroundings, UploadSessionStore};
use crate::journal::{Journal, JournalError, RunId, UploadRecord};
use crate::oci::{Digest, Digester};
use crate::store::{UploadProgress, UploadSession};
use crate::sync::context::run::Run;

/// Maximum time that an upload waits for its record to be written.
const WAIT: Duration = Duration::from_secs(2);

/// Journal for the copies of one run.
#[derive(Debug)]
struct JournalRecords {
    journal: Journal,
    run: RunId,
    entry: String,
}

/// Returns the context of a batch of copies in this run: its events, its journal and its signal to suspend.
pub(crate) fn batch_surroundings(
    run: &Run<'_>,
    events: tokio::sync::mpsc::Sender<crate::copy::event::Event>,
) -> Surroundings {
    let mut surroundings = Surroundings::from(events);
    surroundings.suspension = run.suspension.clone();
    surroundings.planned = run.progress.planned.clone();
    if let (Some(journal), Some(id)) = (&run.engine.journal, run.id) {
        let entry = run.request.entry.name.to_string();
        let records = std::sync::Arc::new(JournalRecords { journal: journal.clone(), run: id, entry });
        surroundings.upload_store = Some(records.clone());
        surroundings.ledger = Some(records);
    }
    surroundings
}

#[async_trait]
impl UploadSessionStore for JournalRecords {
    async fn recall(&self, target: &str, blob: Digest) -> Option<UploadSession> {
        let record = self.journal.take_left_upload(self.run, target, blob).await;
        let UploadRecord { session, stored, hashed, ahead, .. } = record.unwrap_or_else(|error| {
            log_failure(Err(error));
            None
        })?;
        let progress =
            |stored, hashed: &[u8]| Some(UploadProgress { stored, hashed: Digester::from_state(&blob, hashed)? });
        let Some(recorded) = progress(stored, &hashed) else {
            tracing::info!(target, digest = %blob, noted = stored, "an interrupted upload restarts: the recorded \
                 hash state cannot be read");
            return None;
        };
        let ahead = ahead.and_then(|(stored, hashed)| progress(stored, &hashed));
        Some(UploadSession { session, standing: recorded, ahead })
    }

    /// Waits only for a short time until the record is written, so that a journal that hangs blocks no upload. Without
    /// the record, a later run may send bytes again.
    async fn save(&self, target: &str, blob: Digest, upload: UploadSession) {
        let UploadSession { session, standing: UploadProgress { stored, hashed }, ahead } = upload;
        let ahead = ahead.map(|ahead| (ahead.stored, ahead.hashed.to_state()));
        let (target, hashed) = (target.to_owned(), hashed.to_state());
        let record = UploadRecord { target, digest: blob, session, stored, hashed, ahead };
        if let Ok(result) = tokio::time::timeout(WAIT, self.journal.record_upload(self.run, record)).await {
            log_failure(result);
        }
    }

    async fn forget(&self, target: &str, blob: Digest) {
        log_failure(self.journal.forget_upload(target, blob).await);
    }
}

#[async_trait]
impl Ledger for JournalRecords {
    async fn intend(&self, arrival: &Arrival) -> Result<(), String> {
        let recorded = self.journal.record_intent(self.run, &self.entry, arrival).await;
        recorded.map_err(|error| error.to_string())
    }

    async fn withdraw(&self, arrival: &Arrival) {
        if let Err(error) = self.journal.withdraw_intent(self.run, arrival).await {
            tracing::debug!(%error, "cannot delete an intent without effect: the intent stays open until the next run");
        }
    }
}

fn log_failure(result: Result<(), JournalError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "cannot record the progress of an upload");
    }
}
