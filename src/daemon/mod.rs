//! The life of the program: what one run of an entry is, and the loop that starts runs, follows edits and ends cleanly.

mod control;
mod notifications;
mod pushing;
mod service;
mod status;
mod systemd;
mod watch;

pub use control::{Accepted, Command, Commands, Control, Refusal};
pub use service::run_waiters::Finished;

pub use service::{Environment, Setup, serve};
