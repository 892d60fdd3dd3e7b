//! Knowledge about a registry that its answers have shown. Nothing is sent from here.

pub(super) mod blob_heads;
pub(super) mod mount_denials;
pub(super) mod own_mount;
pub(super) mod referrers_api;
pub(super) mod registry_facts;
pub(super) mod upload_strategy;
