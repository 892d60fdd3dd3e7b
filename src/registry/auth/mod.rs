//! Authentication to one registry: challenges, tokens and the credentials behind them.

pub(super) mod authenticator;
pub(super) mod challenge;
pub(super) mod credentials;
mod preemptive;
pub(super) mod realm;
pub(super) mod resolver;
pub(super) mod scope;
mod token;
