//! Client of one registry in one identity, and of one of its repositories. The endpoint files are built on both.

mod limits;
pub(super) mod registry;
pub(super) mod repository;
