//! State of the daemon: events of the loop update a snapshot and metrics.

mod entry_history;
mod running;
pub(super) mod state;
mod traffic;
