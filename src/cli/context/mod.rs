//! What several commands start from: the configuration, endpoints and the engine.

pub(super) mod configuration;
pub(super) mod connection;
pub(super) mod control;
pub(super) mod filter;
mod page_history;
pub(super) mod place;
pub(super) mod runner;
