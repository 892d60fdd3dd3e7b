//! Integration tests, in one binary. Every server of the tests listens on a loopback address.
#![expect(unreachable_pub, reason = "one binary: what its modules share is `pub`, and nothing leaves it")]

mod cli;
mod credentials;
mod daemon;
mod docs;
mod harness;
mod mirror;
mod notify;
mod packaging;
mod registries;
mod series;
mod status;
mod support;
