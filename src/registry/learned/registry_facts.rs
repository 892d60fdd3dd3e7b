//! All facts that the client has learned about one registry. All identities share these facts.

use std::sync::atomic::{AtomicBool, Ordering};

use super::blob_heads::BlobHeads;
use super::own_mount::OwnMount;
use super::referrers_api::ReferrersSupport;
use super::upload_strategy::UploadStrategy;
use crate::registry::Flavor;
use crate::registry::http::pagination::Paging;
use crate::registry::options::Uploads;

/// Facts that the client learned from the responses of one registry.
#[derive(Debug)]
pub(crate) struct RegistryFacts {
    pub(crate) upload_strategy: UploadStrategy,
    pub(crate) own_mount: OwnMount,
    pub(crate) blob_heads: BlobHeads,
    pub(crate) referrers: ReferrersSupport,
    /// Facts about the pages of the standard tag list (distribution-spec).
    pub(crate) tag_pages: Paging,
    /// Facts about the pages of the tag list of Azure Container Registry.
    pub(crate) own_tag_pages: Paging,
    /// Facts about the pages of the repository catalog.
    pub(crate) catalog_pages: Paging,
    /// True if a tag listing has included digests.
    has_listed_digests: AtomicBool,
    /// True if the client has logged the flavour's `mount_requirement`.
    logged_mount_requirement: AtomicBool,
}

impl RegistryFacts {
    /// Returns the initial facts, from the configuration and the registry's flavour.
    pub(crate) fn new(flavor: &'static Flavor, uploads: Uploads) -> Self {
        Self {
            upload_strategy: UploadStrategy::new(flavor, uploads),
            own_mount: OwnMount::default(),
            blob_heads: BlobHeads::default(),
            referrers: ReferrersSupport::default(),
            tag_pages: Paging::default(),
            own_tag_pages: Paging::default(),
            catalog_pages: Paging::default(),
            has_listed_digests: AtomicBool::new(false),
            logged_mount_requirement: AtomicBool::new(false),
        }
    }

    pub(crate) fn lists_digests(&self) -> bool {
        self.has_listed_digests.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_digests_are_listed(&self) {
        self.has_listed_digests.store(true, Ordering::Relaxed);
    }

    /// Returns true to the first caller only. This caller must log the flavour's `mount_requirement`.
    pub(crate) fn claim_log_of_mount_requirement(&self) -> bool {
        !self.logged_mount_requirement.swap(true, Ordering::Relaxed)
    }
}
