//! Sources of the credentials of one registry: the configuration, programs and files on this machine, and cloud
//! services. The client queries a source when a registry requires credentials, and again after the registry refused the
//! credentials. `authenticator.rs` and `token.rs` send the credentials.

mod aws;
mod azure;
mod command;
mod docker;
mod gcp;
mod helper;
mod jwt;
mod login;
mod origin;
mod program;
mod secret;
mod service_request;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use login::Login;
pub(crate) use program::Programs;
pub(crate) use service_request::ServiceClients;
pub(crate) use source::Source;
