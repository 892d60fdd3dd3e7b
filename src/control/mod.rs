//! Control socket, over which a person on the same machine sends commands to the running daemon. Only the permissions
//! of the socket's file decide which users can send commands.
//!
//! The protocol is HTTP/1.1, with one route for each action on an entry, and one route for the list of the entries.
//! `docs/reference/control.md` documents the protocol. This module parses requests and encodes replies. The caller of
//! [`serve`] executes the requests.

mod client;
mod message;
mod routes;
mod server;
mod socket;

pub use client::{Client, ClientError};
pub use message::{Action, EntryResult, PauseOptions, Reply, Request, ResumeOptions, RunResult, TriggerOptions};
pub use routes::Response;
pub use server::{ENTRIES_AT_MOST, serve};
pub use socket::{Socket, SocketError};
