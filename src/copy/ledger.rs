//! The record of what is about to arrive, written before a tag moves, so that a copy that is cut off leaves no tag without a trace.

use std::fmt;

use async_trait::async_trait;

use super::event::Arrival;

/// A record of intents that outlives the process.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Records what is about to be written at the target. `arrival` is as far known as it can be before the write.
    ///
    /// # Errors
    /// The reason in words why nothing was recorded; the copy then writes no tag.
    async fn intend(&self, arrival: &Arrival) -> Result<(), String>;

    /// Takes an intent back: the target has what it had before, and nothing was written. One that cannot be taken back stays open.
    async fn withdraw(&self, arrival: &Arrival);
}
