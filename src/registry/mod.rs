//! Client of the distribution specification: the HTTP requests to one registry, and the limits that apply to them.
//!
//! [`Registry`] is shared by all repositories of one host. [`Repository`] is one of them as a
//! [`Source`](crate::store::Source) and [`Target`](crate::store::Target). Each file covers one concern of the protocol;
//! nothing here knows of copies, plans or the journal.

mod answer;
mod auth;
mod bandwidth;
mod blobs;
mod budget;
mod catalog;
mod challenge;
mod chunks;
mod client;
mod commit;
mod connect;
mod credentials;
mod feed;
mod hint;
mod kind;
mod line;
mod links;
mod load;
mod locate;
mod manifests;
mod manner;
mod meter;
mod mirrors;
mod misdirection;
mod options;
mod outgoing;
mod pace;
mod paging;
mod permits;
mod probe;
mod profile;
mod quota;
mod realm;
mod referrer_list;
mod referrers;
mod referrers_tag;
mod repository;
mod resolver;
mod resume;
mod retry;
mod scope;
mod scrub;
mod seek;
mod tags;
mod token;
mod token_service;
mod transport;
mod trouble;
mod turns;
mod unasked;
mod unmountable;
mod upload;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

pub use bandwidth::HoursError;
pub use client::{Registry, RegistryError};
pub(crate) use connect::bare_client;
pub use connect::{
    PathPrefix, PathPrefixError, Pem, PemError, Proxy, ProxyAddress, ProxyError, Timeouts, Tls, Transport,
    invalid_proxy_variables,
};
pub use credentials::{Aws, Azure, AzureIdentity, Gcp, Variables};
pub use load::Load;
pub use meter::{MeterSnapshot, RequestCount};
pub use mirrors::{Mirror, MirrorError, MirrorHealth, Mirrored};
pub use options::{
    Credentials, DockerConfig, Kind, KindError, Limits, Options, Rate, Secret, UploadMode, UploadModeError, Uploads,
};
pub use pace::{Bandwidth, Bucket, Figure, Hours, Profile, Throttle, Window};
pub use probe::{Greeting, LetIn, LoginError, Proof, Readable, Scheme, StatedLimits};
pub use profile::{InForce, LimitsInForce, Origin, ProfileError};
pub use quota::QuotaState;
pub(crate) use realm::is_loopback;
pub use repository::Repository;
pub(crate) use retry::retry_after;
pub use token_service::{TokenService, TokenServiceError};
pub use turns::Party;
