//! The life of the program: what one run of an entry is, and the loop that starts runs, follows edits and ends cleanly.

mod awaited;
mod content;
mod control;
mod deliveries;
mod gathering;
#[cfg(test)]
mod notice_docs;
mod notices;
mod pauses;
mod pruning;
mod pushing;
mod queue;
mod service;
#[cfg(test)]
mod start_tests;
mod state;
mod systemd;
mod traffic;
mod underway;
mod watch;

pub use awaited::Finished;
pub use control::{Accepted, Command, Commands, Control, Refusal};

pub use service::{Environment, Setup, serve};
