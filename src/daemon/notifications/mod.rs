//! Notifications that leave the daemon: the notices that are due, and their delivery.

mod deliveries;
#[cfg(test)]
mod doc_tests;
mod news;
pub(super) mod notices;
