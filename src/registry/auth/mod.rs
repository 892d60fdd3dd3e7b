//! Authentication to one registry: challenges, credentials and tokens.

pub(super) mod authenticator;
pub(super) mod credentials;
pub(super) mod error;
mod grant;
mod preemptive;
pub(super) mod realm;
pub(super) mod request;
pub(super) mod scope;
mod send;
mod token;
mod tokens;
