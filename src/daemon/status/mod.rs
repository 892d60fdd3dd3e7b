//! State of the daemon, folded from events into a snapshot and metrics.

mod entry_history;
mod running;
pub(super) mod state;
mod traffic;
