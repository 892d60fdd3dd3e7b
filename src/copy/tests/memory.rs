//! Registry in memory: several repositories in one scope. The registry records every call, and refuses manifests with
//! missing content. A test can make the registry's calls fail, wait, hang or return wrong results.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::Semaphore;

use crate::oci::{Descriptor, Digest, Digester, Manifest, ManifestRef, MediaType, RepositoryName, Tag, referrers_tag};
use crate::store::{
    BlobLookup, ByteStream, ErrorKind, Listed, ReferrerLink, Referrers, Scope, Source, Step, StoreError, TagEntry,
    Target, Upload, UploadProgress, UploadSession, UploadStart, Verified,
};

/// Default size of a piece of a read, in bytes.
const PIECE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Resolve,
    Manifest,
    Blob,
    Referrers,
    Has,
    /// Opens an upload without an attempt to mount.
    Begin,
    /// Resumes an upload of another process.
    Resume,
    Mount,
    Send,
    Push,
    Link,
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) op: Op,
    /// Tag of the call. If the call has no tag, this is the digest.
    pub(super) subject: String,
    /// Offset at which a read began.
    pub(super) offset: u64,
    /// True if the call succeeded. False while the call runs, and for a call that was dropped.
    pub(super) done: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Fault {
    Fail(ErrorKind),
    Hang,
    Delay(Duration),
    /// Waits for a permit and consumes the permit.
    Gate(Arc<Semaphore>),
    /// `has_blob` returns true and a mount reports success, even if the repository lacks the blob.
    FalseSuccess,
    /// A read or an upload fails after this number of bytes.
    BreakAt(u64),
    /// A read or an upload hangs after this number of bytes.
    HangAt(u64),
    /// A read returns wrong bytes of the right length.
    Corrupt,
    /// An upload or a read waits before every piece.
    Slow(Duration),
}

struct Rule {
    op: Op,
    about: Option<String>,
    fault: Fault,
    /// Number of later calls to which the fault applies.
    remaining: usize,
}

#[derive(Default)]
struct RepositoryContent {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
}

#[derive(Default)]
struct RegistryState {
    repositories: HashMap<String, RepositoryContent>,
    rules: Vec<Rule>,
    calls: Vec<Call>,
    read: HashMap<Digest, u64>,
    sending: usize,
    most_sending: usize,
    open_reads: usize,
    /// Bytes of unfinished sessions.
    unfinished: HashMap<Digest, Vec<u8>>,
}

/// Behaviour that all repositories of a registry share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behaviour {
    pub(super) mounts: bool,
    /// True if the registry lists referrers automatically. Otherwise clients must write the list under the fallback
    /// tag.
    pub(super) lists_referrers: bool,
    /// Number of bytes that a read returns at a time.
    pub(super) piece: usize,
    /// Length of an upload's chunks, in bytes. 0 if uploads are not chunked.
    pub(super) chunk: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { mounts: true, lists_referrers: true, piece: PIECE, chunk: 0 }
    }
}

pub(super) struct Registry {
    name: String,
    behaviour: Behaviour,
    state: Mutex<RegistryState>,
    /// Wrong results of `referrers`, by subject.
    claimed_referrers: Mutex<HashMap<Digest, Vec<Descriptor>>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Registry {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Self::with(name, Behaviour::default())
    }

    pub(super) fn with(name: &str, behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self { name: name.into(), behaviour, state: Mutex::default(), claimed_referrers: Mutex::default() })
    }

    pub(super) fn repository(self: &Arc<Self>, name: &str) -> Arc<Repository> {
        self.state().repositories.entry(name.into()).or_default();
        let place = format!("{}/{name}", self.name);
        Arc::new(Repository { registry: self.clone(), name: name.parse().unwrap(), place })
    }

    fn state(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap()
    }

    /// Applies the fault to every later call of this kind.
    pub(super) fn always(&self, op: Op, fault: Fault) {
        self.rule(op, None, fault, usize::MAX);
    }

    /// Applies the fault to every later call of this kind with this digest, tag or repository.
    pub(super) fn always_at(&self, op: Op, about: impl ToString, fault: Fault) {
        self.rule(op, Some(about.to_string()), fault, usize::MAX);
    }

    /// Applies the fault to the next call of this kind with this digest, tag or repository.
    pub(super) fn once_at(&self, op: Op, about: impl ToString, fault: Fault) {
        self.rule(op, Some(about.to_string()), fault, 1);
    }

    pub(super) fn rule(&self, op: Op, about: Option<String>, fault: Fault, remaining: usize) {
        self.state().rules.push(Rule { op, about, fault, remaining });
    }

    pub(super) fn heal(&self) {
        self.state().rules.clear();
    }

    pub(super) fn claim_referrers(&self, subject: Digest, referrers: &[&Manifest]) {
        let list = referrers.iter().map(|manifest| manifest.descriptor()).collect();
        self.claimed_referrers.lock().unwrap().insert(subject, list);
    }

    pub(super) fn calls(&self, op: Op) -> Vec<Call> {
        self.state().calls.iter().filter(|call| call.op == op).cloned().collect()
    }

    pub(super) fn count(&self, op: Op) -> usize {
        self.calls(op).len()
    }

    pub(super) fn count_at(&self, op: Op, about: impl ToString) -> usize {
        let about = about.to_string();
        self.calls(op).iter().filter(|call| call.subject == about).count()
    }

    /// Returns the subjects of the calls of a kind that succeeded, in order.
    pub(super) fn done(&self, op: Op) -> Vec<String> {
        self.calls(op).into_iter().filter(|call| call.done).map(|call| call.subject).collect()
    }

    /// Returns the number of bytes of a blob that were read.
    pub(super) fn read(&self, blob: &Descriptor) -> u64 {
        self.state().read.get(&blob.digest).copied().unwrap_or(0)
    }

    /// Returns the maximum number of uploads that have run at the same time.
    pub(super) fn most_sending(&self) -> usize {
        self.state().most_sending
    }

    /// Returns the number of uploads that run now.
    pub(super) fn sending(&self) -> usize {
        self.state().sending
    }

    /// Returns the number of open streams of blobs.
    pub(super) fn open_reads(&self) -> usize {
        self.state().open_reads
    }

    /// Records the call and applies waits and failures. Returns the index of the call and the faults that the caller
    /// must apply.
    async fn enter(
        &self,
        op: Op,
        repository: &str,
        subject: &str,
        step: Step,
        offset: u64,
    ) -> Result<(usize, Vec<Fault>), StoreError> {
        let (at, faults) = {
            let mut state = self.state();
            let call = Call { op, subject: subject.into(), offset, done: false };
            state.calls.push(call);
            let at = state.calls.len() - 1;
            let mut faults = Vec::new();
            for rule in &mut state.rules {
                let about = rule.about.as_deref().is_none_or(|about| about == subject || about == repository);
                if rule.op == op && about && rule.remaining > 0 {
                    rule.remaining -= 1;
                    faults.push(rule.fault.clone());
                }
            }
            (at, faults)
        };
        tokio::task::yield_now().await;
        for fault in &faults {
            match fault {
                Fault::Hang => pending().await,
                Fault::Delay(wait) => tokio::time::sleep(*wait).await,
                Fault::Gate(gate) => gate.acquire().await.unwrap().forget(),
                _ => {}
            }
        }
        for fault in &faults {
            if let Fault::Fail(kind) = fault {
                let place = format!("{}/{repository}", self.name);
                return Err(StoreError::new(&place, step, subject, *kind, "made to fail"));
            }
        }
        Ok((at, faults))
    }

    fn record_done(&self, at: usize) {
        self.state().calls[at].done = true;
    }
}

#[derive(Debug)]
pub(super) struct Repository {
    registry: Arc<Registry>,
    name: RepositoryName,
    place: String,
}

impl Repository {
    fn with_content<T>(&self, access: impl FnOnce(&mut RepositoryContent) -> T) -> T {
        access(self.registry.state().repositories.get_mut(self.name.as_str()).unwrap())
    }

    pub(super) fn put_blob(&self, content: impl Into<Bytes>) -> Descriptor {
        self.put_blob_as(MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip"), content)
    }

    pub(super) fn put_blob_as(&self, media_type: MediaType, content: impl Into<Bytes>) -> Descriptor {
        let content = content.into();
        let descriptor = Descriptor::new(media_type, Digest::of(&content), content.len() as u64);
        self.with_content(|stored| stored.blobs.insert(descriptor.digest, content));
        descriptor
    }

    pub(super) fn put_manifest(&self, manifest: &Manifest, tag: Option<&str>) {
        self.with_content(|content| {
            content.manifests.insert(manifest.digest(), manifest.clone());
            if let Some(tag) = tag {
                content.tags.insert(tag.parse().unwrap(), manifest.digest());
            }
        });
    }

    /// Removes content, like a garbage collection.
    pub(super) fn lose(&self, digest: Digest) {
        self.with_content(|content| {
            content.blobs.remove(&digest);
            content.manifests.remove(&digest);
        });
    }

    pub(super) fn holds_blob(&self, blob: &Descriptor) -> bool {
        self.with_content(|content| content.blobs.contains_key(&blob.digest))
    }

    pub(super) fn stored(&self, digest: Digest) -> Option<Manifest> {
        self.with_content(|content| content.manifests.get(&digest).cloned())
    }

    pub(super) fn tag(&self, tag: &str) -> Option<Digest> {
        self.with_content(|content| content.tags.get(&tag.parse::<Tag>().unwrap()).copied())
    }

    pub(super) fn tag_names(&self) -> Vec<String> {
        self.with_content(|content| content.tags.keys().map(ToString::to_string).collect())
    }

    fn session(&self, blob: &Descriptor, confirmed: Option<UploadProgress>) -> Session {
        let (registry, name, place) = (self.registry.clone(), self.name.clone(), self.place.clone());
        Session { registry, name, place, blob: blob.clone(), confirmed }
    }

    async fn enter(&self, op: Op, subject: &str, step: Step) -> Result<(usize, Vec<Fault>), StoreError> {
        self.registry.enter(op, self.name.as_str(), subject, step, 0).await
    }

    fn error(&self, step: Step, subject: impl ToString, kind: ErrorKind, detail: &str) -> StoreError {
        StoreError::new(&self.place, step, subject.to_string(), kind, detail)
    }

    /// Returns the digest of a blob or child that a manifest lists and the repository lacks.
    fn missing(&self, manifest: &Manifest) -> Option<Digest> {
        let view = manifest.view().unwrap();
        self.with_content(|content| {
            let blobs = view.blobs().into_iter().filter(|blob| !blob.is_foreign());
            let blob = blobs.map(|blob| blob.digest).find(|digest| !content.blobs.contains_key(digest));
            let children: Vec<Digest> = view.manifests().iter().map(|child| child.digest).collect();
            let exists = |digest: &Digest| content.manifests.contains_key(digest) || content.blobs.contains_key(digest);
            blob.or_else(|| children.into_iter().find(|digest| !exists(digest)))
        })
    }

    fn api_referrers(&self, subject: &Digest) -> Vec<Descriptor> {
        self.with_content(|content| {
            let refers = |manifest: &&Manifest| manifest.view().is_ok_and(|view| view.subject == Some(*subject));
            content.manifests.values().filter(refers).map(Manifest::descriptor).collect()
        })
    }

    fn fallback(&self, subject: &Digest) -> Option<Manifest> {
        self.with_content(|content| {
            content.tags.get(&referrers_tag(subject)).and_then(|digest| content.manifests.get(digest)).cloned()
        })
    }
}

#[async_trait]
impl Source for Repository {
    fn place(&self) -> &str {
        &self.place
    }

    fn scope(&self) -> Scope {
        Scope::new(&self.registry.name)
    }

    fn repository(&self) -> Option<&RepositoryName> {
        Some(&self.name)
    }

    fn identity(&self) -> String {
        format!("someone at {}", self.registry.name)
    }

    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        let tags: Vec<_> = self.with_content(|content| content.tags.clone().into_iter().collect());
        stream::iter(tags).map(|(tag, digest)| Ok(TagEntry::Tag(tag, Some(digest)))).boxed()
    }

    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        let (at, _) = self.enter(Op::Resolve, &reference.to_string(), Step::Resolve).await?;
        self.registry.record_done(at);
        Ok(self.with_content(|content| {
            let digest = match reference {
                ManifestRef::Tag(tag) => *content.tags.get(tag)?,
                ManifestRef::Digest(digest) => *digest,
            };
            content.manifests.get(&digest).map(Manifest::descriptor)
        }))
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        let (at, _) = self.enter(Op::Manifest, &reference.to_string(), Step::ReadManifest).await?;
        self.registry.record_done(at);
        let found = self.with_content(|content| match reference {
            ManifestRef::Tag(tag) => content.tags.get(tag).and_then(|digest| content.manifests.get(digest)).cloned(),
            ManifestRef::Digest(digest) => content.manifests.get(digest).cloned(),
        });
        found
            .ok_or_else(|| self.error(Step::ReadManifest, reference, ErrorKind::NotFound, "the content does not exist"))
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        self.with_content(|content| content.blobs.get(&blob.digest).map(|content| content.len() as u64))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        let subject = blob.digest.to_string();
        let (at, faults) = self.registry.enter(Op::Blob, self.name.as_str(), &subject, Step::ReadBlob, offset).await?;
        let content = self.with_content(|content| content.blobs.get(&blob.digest).cloned());
        let Some(mut content) = content else {
            return Err(self.error(Step::ReadBlob, subject, ErrorKind::NotFound, "the content does not exist"));
        };
        if faults.iter().any(|fault| matches!(fault, Fault::Corrupt)) {
            content = content.iter().map(|byte| byte ^ 1).collect();
        }
        self.registry.record_done(at);
        self.registry.state().open_reads += 1;
        let error = self.error(Step::ReadBlob, subject, ErrorKind::Unavailable, "the connection broke off");
        let reader = Reader {
            registry: self.registry.clone(),
            digest: blob.digest,
            content,
            offset: usize::try_from(offset).unwrap(),
            faults,
            error: Some(error),
        };
        Ok(stream::unfold(reader, |mut reader| async { reader.next().await.map(|piece| (piece, reader)) }).boxed())
    }

    async fn referrers(&self, subject: &Digest, _fallback: Listed) -> Result<Referrers, StoreError> {
        let (at, _) = self.enter(Op::Referrers, &subject.to_string(), Step::ListReferrers).await?;
        self.registry.record_done(at);
        if let Some(manifests) = self.registry.claimed_referrers.lock().unwrap().get(subject) {
            return Ok(Referrers { manifests: manifests.clone(), ..Referrers::default() });
        }
        if self.registry.behaviour.lists_referrers {
            return Ok(Referrers { manifests: self.api_referrers(subject), ..Referrers::default() });
        }
        let fallback = self.fallback(subject);
        let view = fallback.as_ref().map(|list| list.view().unwrap());
        let manifests = view.iter().flat_map(|view| view.manifests()).cloned().collect();
        Ok(Referrers { manifests, fallback, doubt: None })
    }
}

struct Reader {
    registry: Arc<Registry>,
    digest: Digest,
    content: Bytes,
    offset: usize,
    faults: Vec<Fault>,
    error: Option<StoreError>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        let mut end = self.content.len();
        for fault in &self.faults {
            match fault {
                Fault::Slow(wait) => tokio::time::sleep(*wait).await,
                Fault::BreakAt(at) => {
                    end = end.min(usize::try_from(*at).unwrap());
                    if self.offset >= end {
                        return self.error.take().map(Err);
                    }
                }
                Fault::HangAt(at) => {
                    end = end.min(usize::try_from(*at).unwrap());
                    if self.offset >= end {
                        pending::<()>().await;
                    }
                }
                _ => {}
            }
        }
        let piece = self.content.slice(self.offset..end.min(self.offset + self.registry.behaviour.piece));
        self.offset += piece.len();
        *self.registry.state().read.entry(self.digest).or_default() += piece.len() as u64;
        if piece.is_empty() { None } else { Some(Ok(piece)) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.registry.state().open_reads -= 1;
    }
}

#[async_trait]
impl Target for Repository {
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let (at, faults) = self.enter(Op::Has, &blob.digest.to_string(), Step::FindBlob).await?;
        self.registry.record_done(at);
        Ok(faults.iter().any(|fault| matches!(fault, Fault::FalseSuccess)) || self.holds_blob(blob))
    }

    async fn begin_upload(&self, blob: &Descriptor, from: Option<&RepositoryName>) -> Result<UploadStart, StoreError> {
        let op = if from.is_some() { Op::Mount } else { Op::Begin };
        let (at, faults) = self.enter(op, &blob.digest.to_string(), Step::BeginUpload).await?;
        self.registry.record_done(at);
        if let Some(from) = from {
            if faults.iter().any(|fault| matches!(fault, Fault::FalseSuccess)) {
                return Ok(UploadStart::Mounted);
            }
            let mut state = self.registry.state();
            let found =
                state.repositories.get(from.as_str()).and_then(|content| content.blobs.get(&blob.digest)).cloned();
            if let (Some(content), true) = (found, self.registry.behaviour.mounts) {
                state.repositories.get_mut(self.name.as_str()).unwrap().blobs.insert(blob.digest, content);
                return Ok(UploadStart::Mounted);
            }
        }
        Ok(UploadStart::Session(Box::new(self.session(blob, None))))
    }

    async fn find_or_begin(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        if !self.has_blob(blob).await? {
            return Ok(self.begin_upload(blob, None).await?.into());
        }
        let stored = self.blob_length(blob).await.filter(|stored| *stored != blob.size);
        Ok(stored.map_or(BlobLookup::Found, BlobLookup::OtherLength))
    }

    async fn resume_upload(
        &self,
        blob: &Descriptor,
        saved: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        let (at, _) = self.enter(Op::Resume, &blob.digest.to_string(), Step::BeginUpload).await?;
        self.registry.record_done(at);
        let stored = self.registry.state().unfinished.get(&blob.digest).map(|content| content.len() as u64);
        let can_resume = stored == Some(saved.confirmed.stored);
        Ok(can_resume.then(|| Box::new(self.session(blob, Some(saved.confirmed.clone()))) as Box<dyn Upload>))
    }

    fn memory_per_upload(&self) -> u64 {
        self.registry.behaviour.chunk as u64
    }

    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError> {
        let subject = tag.map_or_else(|| manifest.digest().to_string(), ToString::to_string);
        let (at, _) = self.enter(Op::Push, &subject, Step::WriteManifest).await?;
        if let Some(missing) = self.missing(manifest) {
            let detail = format!("{missing} is missing");
            let digest = manifest.digest();
            return Err(self.error(Step::WriteManifest, digest, ErrorKind::MissingContent, &detail));
        }
        self.with_content(|content| {
            content.manifests.insert(manifest.digest(), manifest.clone());
            if let Some(tag) = tag {
                content.tags.insert(tag.clone(), manifest.digest());
            }
        });
        self.registry.record_done(at);
        let refers = manifest.view().unwrap().subject.is_some();
        let unlisted = refers && !self.registry.behaviour.lists_referrers;
        Ok(if unlisted { ReferrerLink::Unlisted } else { ReferrerLink::Listed })
    }

    async fn link_referrers(&self, subject: &Digest, referrers: &Referrers) -> Result<(), StoreError> {
        let (at, _) = self.enter(Op::Link, &subject.to_string(), Step::LinkReferrers).await?;
        let list = match (self.fallback(subject), &referrers.fallback) {
            (None, Some(verbatim)) if verbatim.view().unwrap().manifests().len() == referrers.manifests.len() => {
                verbatim.clone()
            }
            (old, _) => {
                let entries = old.map(|old| old.view().unwrap().manifests().into_iter().cloned().collect());
                let mut entries: Vec<Descriptor> = entries.unwrap_or_default();
                entries.retain(|entry| referrers.manifests.iter().all(|new| new.digest != entry.digest));
                entries.extend(referrers.manifests.iter().cloned());
                super::content::index(&entries.iter().collect::<Vec<_>>())
            }
        };
        self.put_manifest(&list, Some(referrers_tag(subject).as_str()));
        self.registry.record_done(at);
        Ok(())
    }

    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError> {
        Err(self.error(Step::Delete, reference, ErrorKind::Unsupported, "the registry in memory deletes nothing"))
    }
}

struct Session {
    registry: Arc<Registry>,
    name: RepositoryName,
    place: String,
    blob: Descriptor,
    /// Progress of the process that has started the upload.
    confirmed: Option<UploadProgress>,
}

impl Session {
    /// Returns the state for resuming the upload after `content`. If `content` does not end at the end of a chunk,
    /// returns `None`.
    fn acknowledged(&self, content: &[u8]) -> Option<UploadSession> {
        let chunk = self.registry.behaviour.chunk;
        if chunk == 0 || !content.len().is_multiple_of(chunk) {
            return None;
        }
        self.registry.state().unfinished.insert(self.blob.digest, content.to_vec());
        let mut hashed = Digester::like(&self.blob.digest);
        hashed.update(content);
        let confirmed = UploadProgress { stored: content.len() as u64, hashed };
        Some(UploadSession { session: "a session".into(), confirmed, ahead: None })
    }
}

struct Sending(Arc<Registry>);

impl Sending {
    fn new(registry: &Arc<Registry>) -> Self {
        let mut state = registry.state();
        state.sending += 1;
        state.most_sending = state.most_sending.max(state.sending);
        Self(registry.clone())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.state().sending -= 1;
    }
}

#[async_trait]
impl Upload for Session {
    async fn send(self: Box<Self>, mut bytes: Verified) -> Result<(), StoreError> {
        let _sending = Sending::new(&self.registry);
        let subject = self.blob.digest.to_string();
        let (at, faults) = self.registry.enter(Op::Send, self.name.as_str(), &subject, Step::SendBlob, 0).await?;
        let earlier =
            self.confirmed.is_some().then(|| self.registry.state().unfinished.get(&self.blob.digest).cloned());
        let mut content = earlier.flatten().unwrap_or_default();
        while let Some(piece) = bytes.next().await {
            content.extend_from_slice(&piece?);
            if let Some(session) = self.acknowledged(&content) {
                bytes.report_progress(session).await;
            }
            for fault in &faults {
                match fault {
                    Fault::Slow(wait) => tokio::time::sleep(*wait).await,
                    Fault::HangAt(at) if content.len() as u64 >= *at => pending().await,
                    Fault::BreakAt(at) if content.len() as u64 >= *at => {
                        let (step, kind) = (Step::SendBlob, ErrorKind::Unavailable);
                        return Err(StoreError::new(&self.place, step, subject, kind, "the connection broke off"));
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(Digest::of(&content), self.blob.digest, "wrong content was about to be committed");
        let mut state = self.registry.state();
        state.repositories.get_mut(self.name.as_str()).unwrap().blobs.insert(self.blob.digest, content.into());
        state.calls[at].done = true;
        Ok(())
    }

    fn confirmed(&self) -> Option<&UploadProgress> {
        self.confirmed.as_ref()
    }

    async fn cancel(self: Box<Self>) {}
}
