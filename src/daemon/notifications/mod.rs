//! Notifications that the daemon sends to webhooks: their content, their records in the journal, and their delivery.

mod deliveries;
#[cfg(test)]
mod doc_tests;
mod news;
pub(super) mod notices;
