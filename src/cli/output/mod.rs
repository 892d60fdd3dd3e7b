//! Output of commands: results on standard output, and progress on standard error.

pub(super) mod escape;
pub(super) mod progress;
pub(super) mod snapshot;
pub(super) mod style;
pub(super) mod summary;
pub(super) mod table;
mod table_layout;
pub(super) mod units;
pub(super) mod writer;
