//! Push events: a port of its own takes what registries send, finds out what was pushed, and which entries read from there.
//!
//! `payload` reads what senders write, `authentication` what they prove themselves by; both are pure. `port` is the routes.
//! What runs then, and when, is the daemon's: nothing here waits for a run. What an event says is believed for one thing alone:
//! that it is time to look at a tag.

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
