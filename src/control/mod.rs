//! The control socket: how a person on the same machine asks the running daemon for something. Who may is decided by the
//! permissions of the socket's file, and by nothing else.
//!
//! One request a connection, a line of JSON; the answers are lines of JSON, until the connection ends. It knows what can be
//! asked and said, and not what is done about it: the caller of [`serve`] brings that.

mod client;
mod server;
mod socket;
mod wire;

pub use client::{Client, ClientError};
pub use server::{Replies, serve};
pub use socket::{Socket, SocketError};
pub use wire::{Answer, ENTRIES_AT_MOST, Ended, Request, Said};
