//! Differences between registries, by the kind of a registry: hosts, uploads and limits.

pub(super) mod kind;
pub(super) mod profile;
