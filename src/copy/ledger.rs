//! Record of intended arrivals, written before each tag, so that an interrupted copy leaves no tag without a record.

use std::fmt;

use async_trait::async_trait;

use super::event::Arrival;

/// Record of intents that outlives the process.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Records the arrival that is about to be written at the target. `arrival` holds the fields that are known before
    /// the write.
    ///
    /// # Errors
    /// Text with the reason why nothing was recorded. The copy then writes no tag.
    async fn intend(&self, arrival: &Arrival) -> Result<(), String>;

    /// Withdraws an intent: the target has the same content as before, and nothing was written. An intent that cannot
    /// be withdrawn stays open.
    async fn withdraw(&self, arrival: &Arrival);
}
