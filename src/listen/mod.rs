//! Where clients are let in: connections are accepted here, within bounds, for every port and socket of the daemon.
//!
//! No client, slow or hostile, can hold up the daemon or others: there are only so many connections, one more ends the oldest, and
//! each has a limited time. What is answered is the caller's: this room knows no routes and no daemon.

mod connections;
mod http;
mod listener;
mod seldom;

pub use connections::{Accept, Bounds, Place, serve};
pub use http::{serve_events, serve_routes};
pub use listener::{ByteChannel, Connection, Listener};
pub use seldom::Seldom;
