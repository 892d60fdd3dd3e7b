//! Comparison of a tag at both sides, and conflicts with other entries.

pub(super) mod conflicts;
pub(super) mod tag_comparison;
pub(super) mod target_listing;
