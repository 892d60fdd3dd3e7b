//! Queries of the status page: the last runs of many entries in short form, and the search for a tag or digest.
//!
//! Every query has a maximum number of rows or a time limit, and no query writes. For queries of unauthenticated
//! clients, the command `run` opens a separate [`Journal`](super::Journal) for reading. The separate journal has its
//! own thread and connection, so no run waits for these queries.

pub(super) mod record;
mod runs;
mod search;
