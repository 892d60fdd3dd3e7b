//! Control socket, over which a person on the same machine sends commands to the running daemon. The permissions of
//! the socket's file alone decide who may send commands.
//!
//! A connection carries one request, which is a line of JSON. The answers are lines of JSON, and end with the
//! connection. This module defines the requests and the answers but does not execute requests: the caller of
//! [`serve`] does.

mod client;
mod server;
mod socket;
mod wire;

pub use client::{Client, ClientError};
pub use server::{Replies, serve};
pub use socket::{Socket, SocketError};
pub use wire::{Answer, ENTRIES_AT_MOST, Ended, Request, Said};
