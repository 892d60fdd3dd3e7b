//! Servers of the daemon's ports and sockets, which accept connections within limits. This module contains no routes
//! and does not import the daemon. The caller provides the routes.
//!
//! A slow or hostile client cannot block the daemon or other clients:
//! - the number of connections is limited;
//! - if no slot is free, a new connection closes the oldest connection;
//! - each connection has a time limit.

mod connections;
mod http;
mod listener;
mod once_per_minute;

pub use connections::{Accept, Bounds, Slot, serve};
pub use http::{http1_server, serve_events, serve_routes};
pub use listener::{ByteChannel, Connection, Listener};
pub use once_per_minute::OncePerMinute;
