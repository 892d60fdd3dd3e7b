//! Authentication to one registry: challenges, tokens, and the credentials that are exchanged for tokens.

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
