//! The client against servers on this machine: scripted ones that answer as some registry somewhere does, and Debian's
//! registry.

mod auth;
mod debian;
mod listing;
mod mirrors;
mod origins;
mod patience;
mod prefix;
mod scripted;
mod seek;
mod transfer;
