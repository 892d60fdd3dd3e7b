//! Types of a decoded configuration. All values are parsed and checked, and all defaults are set.

pub(super) mod config;
pub(super) mod daemon;
pub(super) mod endpoint;
pub(super) mod entry;
pub(super) mod push_events;
pub(super) mod status;
