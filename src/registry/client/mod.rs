//! Client of one registry for one identity, and client of one repository. The endpoint files add methods to both
//! clients.

mod limits;
pub(super) mod registry;
pub(super) mod repository;
