//! The daemon's knowledge of itself, folded from events into a snapshot and metrics.

mod running;
pub(super) mod state;
mod traffic;
