//! Ledger: records the intent to write a tag, before a copy writes the tag. So an interrupted copy leaves no tag
//! without a record.

use std::fmt;

use async_trait::async_trait;

use super::event::Arrival;

/// Persistent record of the tags that copies intend to write.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Records the intent to write a tag, before the write at the target. Some fields of `arrival` are unknown before
    /// the write, such as the digest of a new list of referrers.
    ///
    /// # Errors
    /// Reason of the failure. The copy then does not write the tag.
    async fn intend(&self, arrival: &Arrival) -> Result<(), String>;

    /// Removes an intent after a write that did not change the target. If the removal fails, the intent stays open.
    async fn withdraw(&self, arrival: &Arrival);
}
