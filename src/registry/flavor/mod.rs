//! Differences between registries. Each flavour is one constant in a file of its own: its hosts, uploads, listings,
//! limits and hints. No other module decides by the name of a registry.
//!
//! A new flavour is a file with its constant, and a line in [`Flavor::ALL`]. Limits that the registry states are a
//! second constant in that file, and a line in [`LimitProfile::ALL`].

mod acr;
pub(super) mod definition;
mod docker_hub;
pub(super) mod ecr;
pub(super) mod generic;
mod ghcr;
mod google;
mod limit_profile;
mod quay;
mod rate;
mod table;

pub use definition::Flavor;
pub use limit_profile::{LimitProfile, LimitProfileError};
pub use rate::{Bucket, Rate};
pub use table::FlavorError;
