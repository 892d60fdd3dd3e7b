//! Facts that the client learned from the responses of a registry. The files of this folder send no requests.

pub(super) mod blob_heads;
pub(super) mod mount_denials;
pub(super) mod own_mount;
pub(super) mod referrers_api;
pub(super) mod registry_facts;
pub(super) mod upload_strategy;
