//! Tests of the client against servers on this machine: scripted servers that answer like real registries, and Debian's
//! registry.

mod auth;
mod auxiliary;
mod blob_lookup;
mod clouds;
mod debian;
mod identities;
mod listing;
mod mirrors;
mod open_registries;
mod origins;
mod pace;
mod prefix;
mod probe;
mod quota;
mod resume;
mod scripted;
mod throttling;
mod token_services;
mod transfer;
