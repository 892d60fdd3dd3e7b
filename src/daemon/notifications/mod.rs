//! Notifications that leave the daemon: which are due, and their delivery.

mod deliveries;
#[cfg(test)]
mod doc_tests;
pub(super) mod notices;
