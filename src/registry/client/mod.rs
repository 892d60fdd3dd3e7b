//! Client of one registry in one identity, and of one of its repositories: what the endpoint files are built on.

mod limits;
pub(super) mod registry;
pub(super) mod repository;
