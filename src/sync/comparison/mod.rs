//! Comparison of a tag at the source and at the targets, state of the targets, and conflicts with other entries.

pub(super) mod conflicts;
pub(super) mod tag_comparison;
pub(super) mod tag_naming;
pub(super) mod target_listing;
