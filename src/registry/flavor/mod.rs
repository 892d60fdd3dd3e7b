//! Differences between registries. Each flavour is one constant in its own file: hosts, uploads, listings, limits and
//! hints. No other module compares the names of registries.
//!
//! To add a flavour, write a file with the constant, and list the constant in [`Flavor::ALL`]. If you know the limits
//! of the registry, also write a [`LimitProfile`] constant, and list this constant in [`LimitProfile::ALL`].

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
