//! One repository of a registry, as an implementation of the traits `Source` and `Target`. Each method only delegates
//! to the file of its protocol concern.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use url::Url;

use super::auth::scope::Scopes;
use super::http::response::Context;
use super::http::retry::Operation;
use super::{Registry, Tenant};
use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};
use crate::store::{
    BlobLookup, ByteStream, ErrorKind, Listed, ReferrerLink, Referrers, Reservation, Scope, Source, Step, StoreError,
    TagEntry, Target, Upload, UploadSession, UploadStart,
};

/// One repository of one registry.
#[derive(Clone)]
pub struct Repository {
    pub(crate) registry: Arc<Registry>,
    pub(crate) name: RepositoryName,
    /// Tenant on whose behalf the repository is read and written.
    pub(crate) tenant: Tenant,
    pub(crate) place: Arc<str>,
    /// Operation of a read by digest, for the retry policy.
    pub(crate) reads: Operation,
    /// True if the repository is written to.
    writes: bool,
}

impl Repository {
    pub(crate) fn new(registry: Arc<Registry>, name: RepositoryName) -> Self {
        let place = format!("{}/{name}", registry.host().in_reference()).into();
        Self { registry, name, tenant: Tenant::default(), place, reads: Operation::Read, writes: false }
    }

    /// Returns the same repository on behalf of this tenant. Tenants share the registry's limits fairly.
    #[must_use]
    pub fn for_tenant(self, tenant: Tenant) -> Self {
        Self { tenant, ..self }
    }

    /// Returns the same repository as a target. Its token requests ask for the right to push from the first request on.
    #[must_use]
    pub fn for_writing(self) -> Self {
        Self { writes: true, ..self }
    }

    /// Returns the scopes of a token that reads from this repository.
    pub(crate) fn reading(&self) -> Scopes {
        if self.writes { Scopes::pull_to_push(&self.name) } else { Scopes::pull(&self.name) }
    }

    /// Returns true if the repository is written to. A refused read is then inconclusive, and the answer to a write
    /// decides.
    pub(crate) fn is_written(&self) -> bool {
        self.writes
    }

    /// Returns the same repository as a mirror of another one. A failed read is not repeated, because other mirrors can
    /// serve it.
    pub(crate) fn into_mirror(self) -> Self {
        Self { reads: Operation::StandIn, ..self }
    }

    pub(crate) fn context(&self, step: Step, subject: impl fmt::Display) -> Context {
        let (place, registry) = (Arc::clone(&self.place), &self.registry);
        let context = Context::new(place, step, subject.to_string(), registry.flavor, &registry.budgets);
        Context { tenant: self.tenant, ..context }
    }

    /// Returns the URL of something below this repository, such as `manifests/latest`.
    pub(crate) fn url(&self, context: &Context, below: &str) -> Result<Url, StoreError> {
        let path = format!("/v2/{}/{below}", self.name);
        self.registry.address(&path).map_err(|error| context.error(ErrorKind::Invalid, error))
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({})", self.place)
    }
}

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
        self.registry.auth.identity()
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
        self.registry.auth.quota.counts()
    }

    fn manifest_reads_left(&self) -> Option<u64> {
        self.registry.auth.quota.reads_left()
    }

    async fn wait_until_manifest_reads_known(&self) {
        self.registry.auth.quota.wait_until_known().await;
    }

    async fn reserve_manifest_reads(&self, manifests: &[Digest]) -> Result<Reservation, StoreError> {
        self.registry.auth.quota.reserve(&self.context(Step::ReadManifest, ""), manifests).await
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
        self.note_wrong_length(blob, stored);
        self.open_upload(blob, None).await
    }

    async fn resume_upload(
        &self,
        blob: &Descriptor,
        left: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        self.resume(blob, left).await
    }

    fn upload_holds(&self) -> u64 {
        self.registry.upload.memory_per_upload()
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
