//! What a person at the page asks of the past: the runs of many entries in small, and where a tag or digest turned up.
//!
//! Every question has a bound, of rows or of time, and none writes. Whoever asks on behalf of strangers does it by
//! a [`Journal`](super::Journal) of its own, opened for reading: it has its own thread and connection, and no run waits for it.

pub(super) mod record;
mod runs;
mod search;
