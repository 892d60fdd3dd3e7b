//! Model of the configuration for the rest of the program: every value parsed, every default filled in, every rule
//! across entries checked. The model does not contain the YAML as written.

pub(super) mod config;
pub(super) mod daemon;
pub(super) mod endpoint;
pub(super) mod entry;
pub(super) mod push_events;
pub(super) mod status;
