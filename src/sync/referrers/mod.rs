//! Referrers and signatures: the schedule of their checks, and tags whose names are reserved for them.

pub(super) mod checks;
pub(super) mod reserved_tags;
pub(super) mod target_lists;
