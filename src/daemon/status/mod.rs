//! State of the daemon, folded from events into a snapshot and metrics.

mod running;
pub(super) mod state;
mod traffic;
