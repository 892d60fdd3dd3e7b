//! Repositories and tags that an entry selects: its pairs, the tags of its source, and the filter that restricts a run
//! to pushed tags.

pub(super) mod coverage;
pub(super) mod listing;
pub(super) mod near_tags;
pub(super) mod pairs;
pub(super) mod tag_filter;
