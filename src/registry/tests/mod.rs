//! Tests of the client against servers on this machine: scripted ones that answer like some real registry, and Debian's
//! registry.

mod auth;
mod auxiliary;
mod clouds;
mod debian;
mod identities;
mod listing;
mod mirrors;
mod origins;
mod pace;
mod patience;
mod prefix;
mod probe;
mod quota;
mod resume;
mod scripted;
mod seek;
mod token_services;
mod transfer;
mod unasked;
