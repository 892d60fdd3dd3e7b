//! Model of the configuration for the rest of the program. Every value is parsed, every default is set, and every rule
//! across entries is checked.

pub(super) mod config;
pub(super) mod daemon;
pub(super) mod endpoint;
pub(super) mod entry;
pub(super) mod push_events;
pub(super) mod status;
