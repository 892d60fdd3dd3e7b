//! Receivers of push events: a separate port accepts events from registries, finds the pushed tags, and finds the
//! entries that read from these repositories.
//!
//! - `payload` parses the bodies of senders. It is pure.
//! - `authentication` checks the senders' credentials. It is pure.
//! - `port` contains the routes.
//!
//! The daemon decides which runs start and when. No code here waits for a run. An event is trusted for one purpose
//! only: it is a reason to look at a tag.

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
