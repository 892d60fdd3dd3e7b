//! Referrers and signatures: schedule of checks, lists of referrers at a target, and tags with a reserved form.

pub(super) mod checks;
pub(super) mod reserved_tags;
pub(super) mod target_lists;
