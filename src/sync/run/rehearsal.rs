//! Rehearsal of a copy: a source and a target that answer requests for facts from the real endpoints, transfer no blobs
//! and write nothing. So the copy engine computes the same bytes as a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};
use crate::store::{
    BlobLookup, ByteStream, Listed, ReferrerLink, Referrers, Reservation, Scope, Source, StoreError, TagEntry, Target,
    Upload, UploadSession, UploadStart, Verified,
};

/// Source of a rehearsal, which counts the reads of manifests that the source counts as pulls.
#[derive(Debug)]
pub(crate) struct RehearsedSource {
    source: Arc<dyn Source>,
    pulls: AtomicU64,
}

impl RehearsedSource {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self { source, pulls: AtomicU64::new(0) }
    }

    /// Returns the number of reads so far that the source counts as pulls.
    pub(crate) fn pulls(&self) -> u64 {
        self.pulls.load(Ordering::Relaxed)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Source for RehearsedSource {
    fn place(&self) -> &str {
        self.source.place()
    }

    fn scope(&self) -> Scope {
        self.source.scope()
    }

    fn repository(&self) -> Option<&RepositoryName> {
        self.source.repository()
    }

    fn identity(&self) -> String {
        self.source.identity()
    }

    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        self.source.tags()
    }

    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        self.source.resolve(reference).await
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        let read = self.source.manifest(reference).await;
        // The first response may state the quota, so the source is asked after the read.
        if self.source.counts_manifest_reads() {
            self.pulls.fetch_add(1, Ordering::Relaxed);
        }
        read
    }

    /// Returns no bytes, because no upload of a rehearsal reads them.
    async fn blob(&self, _blob: &Descriptor, _offset: u64) -> Result<ByteStream, StoreError> {
        Ok(stream::empty().boxed())
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        self.source.blob_length(blob).await
    }

    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        self.source.referrers(subject, fallback).await
    }

    fn lists_digests(&self) -> bool {
        self.source.lists_digests()
    }

    fn counts_manifest_reads(&self) -> bool {
        self.source.counts_manifest_reads()
    }

    fn is_mirrored(&self) -> bool {
        self.source.is_mirrored()
    }

    fn manifest_reads_left(&self) -> Option<u64> {
        self.source.manifest_reads_left()
    }

    async fn wait_until_manifest_reads_known(&self) {
        self.source.wait_until_manifest_reads_known().await;
    }

    async fn reserve_manifest_reads(&self, manifests: &[Digest]) -> Result<Reservation, StoreError> {
        self.source.reserve_manifest_reads(manifests).await
    }
}

/// Target of a rehearsal. A mount counts as successful, because only a write shows if the registry allows the mount.
#[derive(Debug)]
pub(crate) struct RehearsedTarget(pub(crate) Arc<dyn Target>);

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Source for RehearsedTarget {
    fn place(&self) -> &str {
        self.0.place()
    }

    fn scope(&self) -> Scope {
        self.0.scope()
    }

    fn repository(&self) -> Option<&RepositoryName> {
        self.0.repository()
    }

    fn identity(&self) -> String {
        self.0.identity()
    }

    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        self.0.tags()
    }

    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        self.0.resolve(reference).await
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        self.0.manifest(reference).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        self.0.blob(blob, offset).await
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        self.0.blob_length(blob).await
    }

    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        self.0.referrers(subject, fallback).await
    }

    fn lists_digests(&self) -> bool {
        self.0.lists_digests()
    }

    fn counts_manifest_reads(&self) -> bool {
        self.0.counts_manifest_reads()
    }

    fn is_mirrored(&self) -> bool {
        self.0.is_mirrored()
    }

    fn manifest_reads_left(&self) -> Option<u64> {
        self.0.manifest_reads_left()
    }

    async fn wait_until_manifest_reads_known(&self) {
        self.0.wait_until_manifest_reads_known().await;
    }

    async fn reserve_manifest_reads(&self, manifests: &[Digest]) -> Result<Reservation, StoreError> {
        self.0.reserve_manifest_reads(manifests).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Target for RehearsedTarget {
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        self.0.has_blob(blob).await
    }

    async fn begin_upload(&self, _blob: &Descriptor, from: Option<&RepositoryName>) -> Result<UploadStart, StoreError> {
        Ok(if from.is_some() { UploadStart::Mounted } else { UploadStart::Session(Box::new(DroppedUpload)) })
    }

    async fn find_or_begin(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        let is_found = self.0.has_blob(blob).await?;
        Ok(if is_found { BlobLookup::Found } else { BlobLookup::Session(Box::new(DroppedUpload)) })
    }

    async fn begin_replacement(&self, _blob: &Descriptor, _stored: u64) -> Result<UploadStart, StoreError> {
        Ok(UploadStart::Session(Box::new(DroppedUpload)))
    }

    async fn resume_upload(
        &self,
        _blob: &Descriptor,
        _saved: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        Ok(None)
    }

    fn memory_per_upload(&self) -> u64 {
        0
    }

    async fn push_manifest(&self, _manifest: &Manifest, _tag: Option<&Tag>) -> Result<ReferrerLink, StoreError> {
        Ok(ReferrerLink::Listed)
    }

    async fn keep_root(&self, _manifest: &Manifest) -> Result<(), StoreError> {
        Ok(())
    }

    async fn link_referrers(&self, _subject: &Digest, _referrers: &Referrers) -> Result<(), StoreError> {
        Ok(())
    }

    async fn has_referrers_list(&self, tag: &Tag) -> Result<bool, StoreError> {
        self.0.has_referrers_list(tag).await
    }

    async fn delete(&self, _reference: &ManifestRef) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Upload that reads and sends no bytes.
struct DroppedUpload;

#[async_trait]
impl Upload for DroppedUpload {
    async fn send(self: Box<Self>, _bytes: Verified) -> Result<(), StoreError> {
        Ok(())
    }

    async fn cancel(self: Box<Self>) {}
}
