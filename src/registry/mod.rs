//! Client of the distribution specification: the HTTP requests to one registry, and the limits that apply to them.
//!
//! [`Registry`] is shared by all repositories of one host. [`Repository`] is one of them as a
//! [`Source`](crate::store::Source) and [`Target`](crate::store::Target). Each file covers one concern of the protocol;
//! nothing here knows of copies, plans or the journal.

mod api;
mod auth;
mod client;
mod flavor;
mod http;
mod limits;
mod mirrors;
mod options;
mod repository;
mod upload;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

pub use crate::fair_queue::Tenant;
pub use api::check::{Greeting, LetIn, LoginError, Proof, Readable, Scheme, StatedLimits};
pub use auth::credentials::{Aws, Azure, AzureIdentity, Gcp, Variables};
pub(crate) use auth::realm::is_loopback;
pub use client::{Registry, RegistryError};
pub use flavor::{Flavor, FlavorError, LimitProfile, LimitProfileError};
pub(crate) use http::connect::bare_client;
pub use http::connect::{
    PathPrefix, PathPrefixError, Pem, PemError, Proxy, ProxyAddress, ProxyError, Timeouts, Tls, Transport,
    invalid_proxy_variables,
};
pub(crate) use http::retry::retry_after;
pub use limits::counters::{MeterSnapshot, RequestCount};
pub use limits::in_force::{InForce, LimitsInForce, Origin};
pub use limits::pace::{Bandwidth, Bucket, Figure, Hours, Throttle, Window};
pub use limits::pull_quota::QuotaState;
pub use limits::snapshot::Load;
pub use mirrors::{Mirror, MirrorError, MirrorHealth, Mirrored};
pub use options::bandwidth::HoursError;
pub use options::token_service::{TokenService, TokenServiceError};
pub use options::{Credentials, DockerConfig, Limits, Options, Rate, Secret, UploadMode, UploadModeError, Uploads};
pub use repository::Repository;
