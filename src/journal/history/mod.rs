//! History queries of the status page: the runs of many entries in short form, and the addresses at which a tag or
//! digest was found.
//!
//! Every query is bounded by rows or by time, and none writes. A caller that serves unauthenticated clients uses a
//! [`Journal`](super::Journal) of its own, opened for reading. That journal has its own thread and connection, and no
//! run waits for it.

pub(super) mod record;
mod runs;
mod search;
