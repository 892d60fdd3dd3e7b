//! Run of one entry, copy of one manifest, and preview of a run.

pub(super) mod entry_run;
pub(super) mod preview;
mod rehearsal;
pub(super) mod single_copy;
