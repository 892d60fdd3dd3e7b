//! Sections of `sync.yaml`, one file each: keys and their readers.

mod aws;
mod azure;
mod bandwidth;
mod control;
pub(crate) mod credentials;
pub(crate) mod daemon;
pub(crate) mod entry;
pub(crate) mod entry_credentials;
mod gcp;
mod limits;
pub(crate) mod notify;
mod push_events;
pub(crate) mod registry;
mod repositories;
mod secret;
mod service_address;
pub(crate) mod settings;
mod socket_path;
mod status;
pub(crate) mod tag_names;
mod tags;
mod timeouts;
mod timezone;
mod tls;
pub(crate) mod top_level;
mod transport;
mod upload;
