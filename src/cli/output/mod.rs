//! Output of commands: lines, tables and JSON on standard output, and progress.

pub(super) mod escape;
pub(super) mod progress;
pub(super) mod snapshot;
pub(super) mod summary;
pub(super) mod table;
pub(super) mod units;
pub(super) mod writer;
