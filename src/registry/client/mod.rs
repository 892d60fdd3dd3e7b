//! Client of one registry for one identity, and client of one repository of a registry. The modules `api` and `upload`
//! add methods to both clients.

mod limits;
pub(super) mod registry;
pub(super) mod repository;
