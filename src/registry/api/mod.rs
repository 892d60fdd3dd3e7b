//! Endpoints of the distribution specification, one file each.

pub(super) mod blobs;
pub(super) mod catalog;
pub(super) mod check;
mod list_page;
mod manifests;
mod referrer_list;
mod referrers;
mod referrers_tag;
pub(super) mod tags;
