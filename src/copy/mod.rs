//! Moves closures from a source to targets. Knows no HTTP and no SQL.

pub mod event;
