//! Code that several commands share, such as the reading of the configuration and the connections to registries.

pub(super) mod completion;
pub(super) mod configuration;
pub(super) mod connection;
pub(super) mod control_client;
pub(super) mod control_server;
pub(super) mod entry_pattern;
pub(super) mod filter;
pub(super) mod flag_hints;
pub(super) mod invocation;
pub(super) mod location;
mod page_history;
pub(super) mod registry_selection;
pub(super) mod runner;
pub(super) mod status_client;
pub(super) mod upcoming_runs;
pub(super) mod watch;
