//! Lookup of a blob, and start of its upload if the registry lacks the blob. Some registries support both steps in one
//! request.

use crate::oci::Descriptor;
use crate::registry::Repository;
use crate::registry::api::blobs::Looked;
use crate::store::{BlobLookup, StoreError, UploadStart};

impl Repository {
    pub(crate) async fn find_or_start_upload(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        let prefers_head = self.registry.flavor().prefers_head;
        if prefers_head || !self.registry.facts().own_mount.works() {
            return self.head_then_start(blob, !prefers_head).await;
        }
        match self.mount(blob, &self.name).await {
            Some(UploadStart::Mounted) => Ok(BlobLookup::Found),
            Some(UploadStart::Session(session)) => Ok(BlobLookup::Session(session)),
            None => {
                self.registry.facts().own_mount.record_result(false);
                self.head_then_start(blob, false).await
            }
        }
    }

    async fn head_then_start(&self, blob: &Descriptor, may_test: bool) -> Result<BlobLookup, StoreError> {
        match self.look_for_blob(blob).await {
            Ok(Looked::Present) => {}
            Ok(Looked::Absent) => return Ok(self.open_upload(blob, None).await?.into()),
            Ok(Looked::OtherLength(stored)) => return Ok(BlobLookup::OtherLength(stored)),
            // The registry may have the blob. A second upload of the blob does no harm.
            Err(error) => {
                tracing::debug!(%error, "sending the blob: the registry does not report whether it has the blob");
                return Ok(self.open_upload(blob, None).await?.into());
            }
        }
        if may_test && self.registry.facts().own_mount.claim_test() {
            self.test_own_mount(blob).await;
        }
        Ok(BlobLookup::Found)
    }

    /// Tests own mounts: requests a mount of the blob from this repository into the same repository. The repository
    /// must have the blob. If the request fails, records that own mounts do not work. The client does not repeat the
    /// test.
    async fn test_own_mount(&self, blob: &Descriptor) {
        let works = match self.mount(blob, &self.name).await {
            Some(UploadStart::Mounted) => true,
            Some(UploadStart::Session(session)) => {
                session.cancel().await;
                false
            }
            None => false,
        };
        let registry = self.registry.host();
        tracing::debug!(%registry, works, "tested whether a mount finds a blob of its own repository");
        self.registry.facts().own_mount.record_result(works);
    }
}
