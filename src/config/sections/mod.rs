//! Sections of `sync.yaml`, one file each: keys and their readers.

mod azure;
mod cloud;
pub(super) mod cloud_keys;
pub(super) mod control;
pub(super) mod credentials;
pub(super) mod endpoint;
pub(super) mod entry;
pub(super) mod entry_credentials;
pub(super) mod limits;
pub(super) mod notify;
pub(super) mod push_events;
pub(super) mod registry_keys;
pub(super) mod status;
pub(super) mod transport;
