//! The client against servers on this machine: scripted ones that answer as some registry somewhere does, and Debian's
//! registry.

mod auth;
mod debian;
mod listing;
mod origins;
mod patience;
mod prefix;
mod quota;
mod scripted;
mod seek;
mod transfer;
