//! Implementation of the traits `Source` and `Target` for [`Repository`].

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::Repository;
use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};
use crate::store::{
    BlobLookup, ByteStream, Listed, ReferrerLink, Referrers, Reservation, Scope, Source, Step, StoreError, TagEntry,
    Target, Upload, UploadSession, UploadStart,
};

#[async_trait]
impl Source for Repository {
    fn place(&self) -> &str {
        &self.place
    }

    fn scope(&self) -> Scope {
        Scope::new(self.registry.host().as_str())
    }

    fn repository(&self) -> Option<&RepositoryName> {
        Some(&self.name)
    }

    fn identity(&self) -> String {
        self.registry.identity()
    }

    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        self.list_tags()
    }

    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        self.head_manifest(reference).await
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        self.get_manifest(&self.context(Step::ReadManifest, reference), reference).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        self.get_blob(blob, offset).await
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        self.length_by_get(blob).await
    }

    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        self.list_referrers(subject, fallback).await
    }

    fn lists_digests(&self) -> bool {
        self.registry.lists_digests()
    }

    fn counts_manifest_reads(&self) -> bool {
        self.registry.authenticator().quota().counts()
    }

    fn manifest_reads_left(&self) -> Option<u64> {
        self.registry.authenticator().quota().reads_left()
    }

    async fn wait_until_manifest_reads_known(&self) {
        self.registry.authenticator().quota().wait_until_known().await;
    }

    async fn reserve_manifest_reads(&self, manifests: &[Digest]) -> Result<Reservation, StoreError> {
        let reserved = self.registry.authenticator().quota().reserve(manifests).await;
        reserved.map_err(|error| self.context(Step::ReadManifest, "").error(error.kind, error.detail))
    }
}

#[async_trait]
impl Target for Repository {
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        self.head_blob(blob).await
    }

    async fn begin_upload(&self, blob: &Descriptor, from: Option<&RepositoryName>) -> Result<UploadStart, StoreError> {
        self.open_upload(blob, from).await
    }

    async fn find_or_begin(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        self.find_or_start_upload(blob).await
    }

    async fn begin_replacement(&self, blob: &Descriptor, stored: u64) -> Result<UploadStart, StoreError> {
        self.record_wrong_length(blob, stored);
        self.open_upload(blob, None).await
    }

    async fn resume_upload(
        &self,
        blob: &Descriptor,
        session: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        self.resume(blob, session).await
    }

    fn memory_per_upload(&self) -> u64 {
        self.registry.facts().upload_strategy.memory_per_upload()
    }

    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError> {
        let reference = tag.map_or_else(|| manifest.digest().into(), |tag| ManifestRef::from(tag.clone()));
        self.put_manifest(&self.context(Step::WriteManifest, &reference), manifest, &reference).await
    }

    async fn link_referrers(&self, subject: &Digest, referrers: &Referrers) -> Result<(), StoreError> {
        self.write_referrers(subject, referrers).await
    }

    async fn has_referrers_list(&self, tag: &Tag) -> Result<bool, StoreError> {
        self.is_referrers_list(tag).await
    }

    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError> {
        self.delete_manifest(reference).await
    }
}
