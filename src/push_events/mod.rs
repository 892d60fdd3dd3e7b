//! Receivers of push events. A separate port accepts events from registries, parses the pushed tags, and finds the
//! entries that read from the pushed repositories.
//!
//! - `payload` parses the bodies of events, without I/O.
//! - `authentication` checks the senders' credentials, without I/O.
//! - `port` contains the routes.
//!
//! The daemon decides which runs start and when. No code in this module waits for a run. The module does not trust the
//! content of an event. An event only starts a run, and the run compares the tags at the source and at the targets.

mod authentication;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod payload;
mod port;
mod push;
#[cfg(test)]
mod tests;

pub use port::{Deliver, Port, Undelivered};
pub use push::Push;
