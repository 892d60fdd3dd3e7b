//! Record of intended arrivals. A copy writes the record before each tag, so an interrupted copy leaves no tag without
//! a record.

use std::fmt;

use async_trait::async_trait;

use super::event::Arrival;

/// Record of intents that outlives the process.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Records the intended arrival before the write at the target. `arrival` has only the fields that are known before
    /// the write.
    ///
    /// # Errors
    /// Reason of the failure. The copy then writes no tag.
    async fn intend(&self, arrival: &Arrival) -> Result<(), String>;

    /// Withdraws an intent, because the write did not change the content of the target. If the withdrawal fails, the
    /// intent stays open.
    async fn withdraw(&self, arrival: &Arrival);
}
