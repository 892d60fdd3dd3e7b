//! Daemon: the loop that starts runs, applies edits of the configuration, reports status and shuts down cleanly. The
//! code of a single run is in `sync`.

mod control;
mod notifications;
mod pushing;
mod service;
mod status;
mod systemd;
mod watch;

pub use control::{Accepted, Command, Commands, Control, Finished, Refusal};
pub use service::{Environment, Setup, serve};
