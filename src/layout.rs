//! The OCI image layout on disk (image-spec, "Image Layout Specification") as a source and a target of copies.
//!
//! A layout is one repository: tags are the names of `index.json`'s entries, manifests and blobs are files under
//! `blobs/`. Invariants:
//!
//! - Content is written to a temporary file, synced, renamed to its digest, and its folder synced, before
//!   anything names it; `index.json` is replaced as a whole, under a lock that all writers of all processes take,
//!   and read again under it. So a crash at any instant leaves a layout that reads and that can be written on.
//! - Reading takes no lock and creates nothing: a layout on a read-only mount is a good source.
//! - Below the layout's folder no symbolic link is followed, neither to read nor to write, and only regular files are opened.
//! - A name that stands for two images stands for none of them, and what no tag names is listed with its digest.
//! - What other tools wrote into `index.json` keeps its bytes. Other tools do not know the lock: let them write before or
//!   after, not meanwhile.
//!
//! An image of Docker's own types is kept verbatim like any other; skopeo 1.9 passes over entries of other than OCI types, so it
//! does not find such a tag.
//!
//! Deliberately absent: garbage collection of blobs, and any cache of `index.json`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};
use crate::store::{
    Begun, ByteStream, ErrorKind, Listed, ReferrerLink, Referrers, Scope, Sought, Source, Step, StoreError, TagEntry,
    Target,
};

mod calls;
mod changes;
mod disk;
mod fault;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod index;
mod read;
mod referrers;
mod temporary;
#[cfg(test)]
mod tests;
mod untagged;
mod upload;

use calls::Calls;
use changes::{Changes, Outcome};
use disk::Disk;
use fault::Fault;
use index::Named;
use referrers::Facts;
use untagged::Skipped;

/// How long a writer waits for the lock before it gives up.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// How often a writer asks for the lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// An OCI image layout in a folder.
#[derive(Debug)]
pub struct Layout {
    scope: Scope,
    telling: Telling,
    disk: Arc<Disk>,
    calls: Calls,
    facts: Arc<Facts>,
    changes: Arc<Changes>,
    /// Held by the one task of this layout that asks for the file lock: the others wait here, at no cost.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Whether this layout has removed what dead writers left.
    tidied: tokio::sync::OnceCell<()>,
}

impl Layout {
    /// The layout at `path`, of which nothing is read or written yet. A missing one is [`ErrorKind::NotFound`] when its
    /// tags are listed, and is created with the first content that is written.
    #[must_use]
    pub fn open(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            scope: Scope::new(&format!("oci-layout:{}", lexically_absolute(path).display())),
            telling: Telling { place: format!("oci-layout:{}", path.display()).into() },
            disk: Arc::new(Disk::new(path)),
            calls: Calls::new(),
            facts: Arc::default(),
            changes: Arc::default(),
            writer: Arc::default(),
            tidied: tokio::sync::OnceCell::new(),
        })
    }

    /// Runs `work` on the files, on a thread where it may block. When the future is dropped `work` still ends.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let disk = Arc::clone(&self.disk);
        self.calls.run(move || work(&disk)).await
    }

    /// Waits until no other task of this layout writes.
    async fn turn(&self) -> Turn {
        Arc::clone(&self.writer).lock_owned().await
    }

    /// Runs `work` while no other task or process changes the layout, which is created where it is missing.
    async fn under_lock<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&Disk) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.on_disk(Disk::create_root).await?;
        let started = tokio::time::Instant::now();
        // Asked for again and again rather than waited for, so that the wait can be cancelled and ends.
        let lock = loop {
            if let Some(lock) = self.on_disk(Disk::try_lock).await? {
                break lock;
            }
            if started.elapsed() >= LOCK_LIMIT {
                return Err(Fault::Locked { path: self.disk.lock_path(), seconds: LOCK_LIMIT.as_secs() });
            }
            tokio::time::sleep(LOCK_POLL).await;
        };
        self.on_disk(move |disk| {
            // Both go with the work, not with the future that waits for it.
            let _held = (turn, lock);
            disk.create_content()?;
            work(disk)
        })
        .await
    }

    /// Makes the layout ready for content.
    async fn prepare(&self) -> Result<(), Fault> {
        if !self.on_disk(Disk::is_complete).await? {
            self.under_lock(self.turn().await, |_| Ok(())).await?;
        }
        let tidy = || async {
            let removed = self.on_disk(Disk::remove_leftovers).await?;
            if removed > 0 {
                tracing::info!(place = %self.telling.place, removed, "removed temporary files of writers that were killed");
            }
            Ok(())
        };
        self.tidied.get_or_try_init(tidy).await.copied()
    }

    async fn list(&self) -> Result<Vec<TagEntry>, Fault> {
        let facts = Arc::clone(&self.facts);
        self.on_disk(move |disk| {
            let index = disk.read_index()?.ok_or_else(|| disk.no_layout())?;
            let (mut list, mut skipped) = (Vec::new(), Skipped::default());
            for (name, at) in index.names() {
                match (name.parse::<Tag>(), at) {
                    (Ok(tag), Named::One(at)) => list.push(TagEntry::Tag(tag, disk.size_of(at)?.map(|_| at.digest))),
                    // Whoever asks for it is told why it stands for nothing.
                    (Ok(tag), _) => list.push(TagEntry::Tag(tag, None)),
                    (Err(_), at) => skipped.name(name, &at),
                }
            }
            untagged::find(disk, &facts, &index, &mut skipped);
            list.extend(skipped.into_lines().map(TagEntry::Skipped));
            Ok(list)
        })
        .await
    }

    async fn find(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, Fault> {
        let reference = reference.clone();
        self.on_disk(move |disk| match reference {
            ManifestRef::Tag(tag) => {
                let Some(index) = disk.read_index()? else { return Ok(None) };
                let Some(at) = disk.find(&index, &tag)? else { return Ok(None) };
                Ok(disk.size_of(at)?.map(|size| Descriptor::new(at.media_type.clone(), at.digest, size)))
            }
            ManifestRef::Digest(digest) => {
                let found = disk.read_manifest(&digest, None)?;
                Ok(found.map(|manifest| {
                    let size = manifest.bytes().len() as u64;
                    Descriptor::new(manifest.media_type().clone(), digest, size)
                }))
            }
        })
        .await
    }

    async fn read_manifest(&self, reference: &ManifestRef) -> Result<Manifest, Fault> {
        let reference = reference.clone();
        self.on_disk(move |disk| {
            let (digest, media_type) = match reference {
                ManifestRef::Digest(digest) => (digest, None),
                ManifestRef::Tag(tag) => {
                    let index = disk.read_index()?.ok_or_else(|| disk.no_layout())?;
                    let at = disk.find(&index, &tag)?.ok_or(Fault::NoManifest)?;
                    (at.digest, Some(at.media_type.clone()))
                }
            };
            disk.read_manifest(&digest, media_type.as_ref())?.ok_or_else(|| disk.lost(&digest))
        })
        .await
    }

    async fn write_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<(), Fault> {
        self.prepare().await?;
        let content = manifest.clone();
        let has_subject = self
            .on_disk(move |disk| {
                disk.check_children(&content)?;
                disk.write_manifest(&content)?;
                Ok(content.view()?.subject.is_some())
            })
            .await?;
        if tag.is_none() && !has_subject {
            return Ok(());
        }
        self.list_manifest(manifest, tag).await
    }

    /// Lists a manifest that is there, together with all others that wait to be listed.
    async fn list_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<(), Fault> {
        let mut outcome = self.changes.ask(manifest.clone(), tag.cloned());
        let turn = tokio::select! {
            // First the answer: with both there, somebody else has made the change.
            biased;
            outcome = &mut outcome => return told(outcome),
            turn = self.turn() => turn,
        };
        let (changes, facts) = (Arc::clone(&self.changes), Arc::clone(&self.facts));
        let made = self.under_lock(turn, move |disk| {
            changes.make(disk, &facts);
            Ok(())
        });
        if let Err(fault) = made.await {
            self.changes.refuse(fault);
        }
        told(outcome.await)
    }

    async fn remove(&self, reference: &ManifestRef) -> Result<(), Fault> {
        // A layout that is not there must not come to be by a deletion.
        if self.on_disk(|disk| Ok(disk.read_index()?.is_none())).await? {
            return Ok(());
        }
        let (reference, facts) = (reference.clone(), Arc::clone(&self.facts));
        self.under_lock(self.turn().await, move |disk| {
            let mut index = disk.read_index()?.ok_or_else(|| disk.no_layout())?.into_index();
            match reference {
                ManifestRef::Tag(tag) => {
                    if index.remove_tag(&tag, |digest| facts.is_referrer(disk, digest)) {
                        disk.write_index(&index)?;
                    }
                }
                ManifestRef::Digest(digest) => {
                    let stated = index.media_type_of(&digest).cloned();
                    if index.remove_digest(&digest) {
                        disk.write_index(&index)?;
                    }
                    disk.remove_manifest(&digest, stated.as_ref())?;
                    facts.forget(&digest);
                }
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Source for Layout {
    fn place(&self) -> &str {
        &self.telling.place
    }

    fn scope(&self) -> Scope {
        self.scope.clone()
    }

    fn repository(&self) -> Option<&RepositoryName> {
        None
    }

    fn identity(&self) -> String {
        "file".to_owned()
    }

    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        let list = async {
            match self.list().await {
                Ok(list) => stream::iter(list.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(fault) => stream::iter(vec![Err(self.telling.doing(Step::ListTags, "")(fault))]),
            }
        };
        stream::once(list).flatten().boxed()
    }

    /// A tag whose manifest's file is missing or has another length stands for nothing: as a target it is to be written again.
    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        self.find(reference).await.map_err(self.telling.doing(Step::Resolve, reference))
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        self.read_manifest(reference).await.map_err(self.telling.doing(Step::ReadManifest, reference))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        let wanted = blob.clone();
        let opened =
            self.on_disk(move |disk| Ok((disk.open_whole(&wanted, offset)?, disk.blob_path(&wanted.digest)))).await;
        let opened = opened.map_err(self.telling.doing(Step::ReadBlob, blob.digest))?;
        Ok(read::stream_blob(opened, blob, offset, self.telling.clone(), self.calls.clone()))
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        let digest = blob.digest;
        self.on_disk(move |disk| disk.blob_size(&digest)).await.ok()?
    }

    async fn referrers(&self, subject: &Digest, _fallback: Listed) -> Result<Referrers, StoreError> {
        let (wanted, facts) = (*subject, Arc::clone(&self.facts));
        let found = self.on_disk(move |disk| referrers::find(disk, &facts, &wanted)).await;
        found.map_err(self.telling.doing(Step::ListReferrers, subject))
    }
}

#[async_trait]
impl Target for Layout {
    /// A file of another length is not the blob, so the blob is not there: the next upload of it mends the layout.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let wanted = blob.clone();
        let size = self.on_disk(move |disk| disk.blob_size(&wanted.digest)).await;
        Ok(size.map_err(self.telling.doing(Step::FindBlob, blob.digest))? == Some(blob.size))
    }

    async fn find_or_begin(&self, blob: &Descriptor) -> Result<Sought, StoreError> {
        let digest = blob.digest;
        let size = self.on_disk(move |disk| disk.blob_size(&digest)).await;
        match size.map_err(self.telling.doing(Step::FindBlob, digest))? {
            Some(size) if size == blob.size => Ok(Sought::Found),
            Some(size) => Ok(Sought::OtherLength(size)),
            None => Ok(self.begin_upload(blob, None).await?.into()),
        }
    }

    /// A layout has no other repositories, so nothing is mounted.
    async fn begin_upload(&self, blob: &Descriptor, _from: Option<&RepositoryName>) -> Result<Begun, StoreError> {
        let begin = async {
            self.prepare().await?;
            self.on_disk(Disk::create_temporary).await
        };
        let file = begin.await.map_err(self.telling.doing(Step::BeginUpload, blob.digest))?;
        let (disk, calls, telling) = (Arc::clone(&self.disk), self.calls.clone(), self.telling.clone());
        Ok(Begun::Session(Box::new(upload::Session { disk, calls, telling, digest: blob.digest, file })))
    }

    /// The manifest is durable before its tag is. A tag that moves leaves no entry of what it stood for before, unless that
    /// is a referrer; the content itself stays.
    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError> {
        let subject = tag.map_or_else(|| manifest.digest().to_string(), Tag::to_string);
        self.write_manifest(manifest, tag).await.map_err(self.telling.doing(Step::WriteManifest, subject))?;
        Ok(ReferrerLink::Listed)
    }

    async fn keep_root(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let digest = manifest.digest();
        self.list_manifest(manifest, None).await.map_err(self.telling.doing(Step::WriteManifest, digest))
    }

    /// A manifest's blobs stay: they may be another's too.
    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError> {
        self.remove(reference).await.map_err(self.telling.doing(Step::Delete, reference))
    }
}

/// The right of one task to write, within one layout.
type Turn = tokio::sync::OwnedMutexGuard<()>;

/// The answer to a change of `index.json`; none comes only from a program that ends.
fn told(outcome: Result<Outcome, tokio::sync::oneshot::error::RecvError>) -> Result<(), Fault> {
    outcome.unwrap_or_else(|_| Err(Arc::new(Fault::Ending))).map_err(Fault::Shared)
}

/// The layout's name, for errors.
#[derive(Debug, Clone)]
struct Telling {
    place: Arc<str>,
}

impl Telling {
    /// For `map_err`: the fault as an error of this step with this thing.
    fn doing(&self, step: Step, subject: impl std::fmt::Display) -> impl FnOnce(Fault) -> StoreError {
        let (place, subject) = (Arc::clone(&self.place), subject.to_string());
        move |fault| {
            let kind: ErrorKind = fault.kind();
            StoreError::new(&place, step, subject, kind, fault)
        }
    }
}

/// One name for one folder however it is written, without a look at the disk: two names of one folder by way of a
/// symbolic link only cost a blob sent twice.
fn lexically_absolute(path: &Path) -> std::path::PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normal = std::path::PathBuf::new();
    for component in absolute.components() {
        match component {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}
