//! Credentials of one registry, from the configuration or this machine: one file per source. A source is queried when a
//! registry requests credentials, and again after a refusal. `authenticator.rs` and `token.rs` send a login to a
//! registry.

mod aws;
mod azure;
mod command;
mod docker;
mod gcp;
mod helper;
mod jwt;
mod login;
mod program;
mod secret;
mod service_request;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use login::Login;
pub(crate) use program::Programs;
pub(crate) use service_request::Wire;
pub(crate) use source::Source;
