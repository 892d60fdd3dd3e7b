//! Records that a copy writes to the journal for a later run:
//! - Progress of each upload. If the journal fails to write or read the progress, no tag fails, but a later run may
//!   send bytes again.
//! - Intent to write a tag. If the journal fails to record an intent, the run does not write the tag.

use std::time::Duration;

use async_trait::async_trait;

use crate::copy::event::Arrival;
use crate::copy::{BatchContext, Ledger, UploadSessionStore};
use crate::journal::{Journal, JournalError, RunId, UploadRecord};
use crate::oci::{Digest, Digester};
use crate::store::{UploadProgress, UploadSession};
use crate::sync::context::run::Run;

/// Maximum time that an upload waits for the write of its record.
const WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct JournalRecords {
    journal: Journal,
    run: RunId,
    entry: String,
}

/// Returns the context of a batch of copies in this run. `events` is the channel for the events of the batch.
pub(crate) fn create_batch_context(
    run: &Run<'_>,
    events: tokio::sync::mpsc::Sender<crate::copy::event::Event>,
) -> BatchContext {
    let mut batch_context = BatchContext::from(events);
    batch_context.suspension = run.suspension.clone();
    batch_context.planned = run.progress.planned.clone();
    if let (Some(journal), Some(id)) = (&run.engine.journal, run.id) {
        let entry = run.request.entry.name.to_string();
        let records = std::sync::Arc::new(JournalRecords { journal: journal.clone(), run: id, entry });
        batch_context.upload_store = Some(records.clone());
        batch_context.ledger = Some(records);
    }
    batch_context
}

#[async_trait]
impl UploadSessionStore for JournalRecords {
    async fn recall(&self, target: &str, blob: Digest) -> Option<UploadSession> {
        let record = self.journal.adopt_unfinished_upload(self.run, target, blob).await;
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
        Some(UploadSession { session, confirmed: recorded, ahead })
    }

    /// Waits at most 2 seconds ([`WAIT`]) until the journal has written the record. If the journal does not write the
    /// record in time, the upload continues, and a later run may send bytes again.
    async fn save(&self, target: &str, blob: Digest, upload: UploadSession) {
        let UploadSession { session, confirmed: UploadProgress { stored, hashed }, ahead } = upload;
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
            tracing::debug!(%error, "cannot delete an unused intent: the intent stays open until the next run");
        }
    }
}

fn log_failure(result: Result<(), JournalError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "cannot record the progress of an upload");
    }
}
