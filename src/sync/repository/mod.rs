//! Sync of one pair of repositories: a source repository and its targets.

mod late_referrers;
mod pair_facts;
pub(super) mod pair_sync;
mod referrers_lists;
mod repository_sync;
mod tag_slots;
pub(super) mod tag_sync;
