//! The client of the distribution specification: what goes over the wire to one registry, and under which limits.
//!
//! [`Registry`] is everything that the repositories of one host share, [`Repository`] is one of them as a
//! [`Source`](crate::store::Source) and [`Target`](crate::store::Target). One protocol concern a file; nothing here
//! knows of copies, plans or the journal.

mod answer;
mod auth;
mod blobs;
mod catalog;
mod challenge;
mod chunks;
mod client;
mod connect;
mod credentials;
mod kind;
mod links;
mod locate;
mod manifests;
mod manner;
mod meter;
mod options;
mod outgoing;
mod pace;
mod permits;
mod quota;
mod realm;
mod referrers;
mod repository;
mod retry;
mod scope;
mod seek;
mod tags;
mod token;
mod transport;
mod trouble;
mod upload;

#[cfg(test)]
mod tests;

pub use client::{Registry, RegistryError};
pub use connect::{
    PathPrefix, PathPrefixError, Pem, PemError, Proxy, ProxyAddress, ProxyError, Timeouts, Tls, Transport,
};
pub use meter::{MeterSnapshot, RequestCount};
pub use options::{
    Azure, AzureIdentity, Credentials, DockerConfig, Kind, KindError, Limits, Options, Rate, Secret, UploadMode,
    UploadModeError, Uploads,
};
pub use quota::QuotaState;
pub use repository::Repository;
