//! Main loop of the daemon, and its work for each kind of event.

mod configuration_content;
mod journal_probe;
mod loop_state;
mod main_loop;
mod paused_entries;
mod pauses;
mod pruning;
mod push_debounce;
mod reload;
mod requests;
mod resumption;
mod run_end;
mod run_queue;
mod run_waiters;
mod shutdown;
mod start;
#[cfg(test)]
mod start_tests;
mod status_update;

pub use loop_state::Environment;
pub use main_loop::{Setup, serve};
