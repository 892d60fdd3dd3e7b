//! Control socket, over which a person on the same machine sends commands to the running daemon. The permissions of
//! the socket's file alone decide who may send commands.
//!
//! It speaks HTTP/1.1, with one route for each action on an entry; `docs/reference/control.md` documents it. This
//! module parses requests and encodes replies but does not execute requests: the caller of [`serve`] does.

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
