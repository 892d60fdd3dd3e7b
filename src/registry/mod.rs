//! Client of the OCI distribution specification: the HTTP requests to registries, and the limits on these requests.
//!
//! [`Registry`] is the client of one host; all repositories of the host share this client. [`Repository`] is one
//! repository of the host, and implements [`Source`](crate::store::Source) and [`Target`](crate::store::Target).
//!
//! The folders are layers. A test enforces that each folder imports only folders with a smaller number:
//!
//! 1. `flavor`: differences between registries.
//! 2. `options`: settings of the operator, such as credentials and limits.
//! 3. `limits`: concurrency, rates, bandwidth, pull quota, counters.
//! 4. `http`: connections, redirects, time limits and retries. This layer does not choose the credentials of a request.
//! 5. `auth`: credentials, tokens, and the handling of authentication challenges.
//! 6. `learned`: facts about a registry that the client learned from the registry's responses.
//! 7. `client`: [`Registry`] and [`Repository`]. The folders `api` and `upload` add methods to these types.
//! 8. `api`: the endpoints.
//! 9. `upload`: uploads of blobs.
//! 10. `mirrors`: reads from the mirrors of a repository.

mod api;
mod auth;
mod client;
mod flavor;
mod http;
mod learned;
mod limits;
mod mirrors;
mod options;
mod store;
mod upload;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

pub use crate::fair_queue::Tenant;
pub use api::check::{AcceptedIdentity, Greeting, LoginError, Proof, Readable, Scheme, StatedLimits};
pub use client::registry::{Registry, RegistryError};
pub use client::repository::Repository;
pub use flavor::{Bucket, Flavor, FlavorError, LimitProfile, LimitProfileError, Rate};
pub(crate) use http::connect::bare_client;
pub use http::connect::{
    PathPrefix, PathPrefixError, Pem, PemError, Proxy, ProxyAddress, ProxyError, Timeouts, Tls, Transport,
    invalid_proxy_variables,
};
pub(crate) use http::nearness::is_loopback;
pub(crate) use http::response::retry_after;
pub use limits::counters::{MeterSnapshot, RequestCount};
pub use limits::in_force::{InForce, LimitsInForce, Origin};
pub use limits::pace::{Bandwidth, Hours, LimitSetting, Throttle, Window};
pub use limits::pull_quota::QuotaState;
pub use limits::snapshot::Load;
pub use mirrors::{Mirror, MirrorError, MirrorHealth, Mirrored};
pub use options::bandwidth::HoursError;
pub use options::cloud::{Aws, Azure, AzureIdentity, Gcp, Variables};
pub use options::token_service::{TokenService, TokenServiceError};
pub use options::{Credentials, DockerConfig, Limits, Options, Secret, UploadMode, UploadModeError, Uploads};
