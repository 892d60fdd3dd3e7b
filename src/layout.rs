//! OCI image layout on disk (image-spec, "Image Layout Specification"), as a source and a target of copies.
//!
//! A layout is one repository. The tags are the names of the entries in `index.json`. Manifests and blobs are files
//! below `blobs/`. Invariants:
//!
//! - After a crash at any time, the layout can be read and written. A writer puts content into a temporary file, syncs
//!   the file, renames the file to its digest, and syncs the folder. Manifests and `index.json` name the digest only
//!   after the sync of the folder.
//! - A writer replaces `index.json` as a whole. The writer holds a lock that excludes the writers of all processes, and
//!   reads `index.json` again under the lock.
//! - Reading takes no file lock and creates no file. So a layout on a read-only mount can be a source.
//! - Below the layout's folder, transship follows no symbolic link, and opens only folders and regular files.
//! - If `index.json` gives the same name to two images, the name resolves to no image.
//! - A listing of the tags reports untagged images as skipped, with their digests.
//! - Entries that other tools wrote into `index.json` keep their bytes. Other tools do not use the lock, so other tools
//!   must not write at the same time.
//!
//! A layout can also be one tar file, an OCI archive ([`Layout::open_archive`]). [`Layout::publish`] makes all writes
//! to an archive visible at once. A tree of layouts is a folder with one layout for each repository ([`find_layouts`]).
//!
//! A layout stores images with Docker media types unchanged. skopeo 1.9 does not find the tags of such images, because
//! skopeo reads only entries with OCI media types.
//!
//! transship never deletes unused blobs from a layout.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};
use crate::store::{
    BlobLookup, ByteStream, ErrorKind, Listed, ReferrerLink, Referrers, Scope, Source, Step, StoreError, TagEntry,
    Target, UploadStart,
};

mod archive;
mod calls;
mod changes;
mod content;
mod disk;
mod fault;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod index;
mod index_cache;
mod new_content;
mod publication;
mod read;
mod referrers;
mod temporary;
#[cfg(test)]
mod tests;
mod tree;
mod untagged;
mod upload;
mod version;

use calls::Calls;
use changes::{Changes, Outcome};
use disk::Disk;
use fault::Fault;
use index::Named;
use referrers::Facts;
use untagged::Skipped;

pub use tree::{TreeError, find_layouts, layout_path};

/// Maximum time that a writer waits for the lock of another process.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// Interval at which a writer tries to take a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// An OCI image layout in a folder.
#[derive(Debug)]
pub struct Layout {
    scope: Scope,
    context: ErrorContext,
    disk: Arc<Disk>,
    calls: Calls,
    facts: Arc<Facts>,
    changes: Arc<Changes>,
    /// Lock between the writing tasks of this value. Only the task that has this lock polls for the file lock.
    writer: Arc<tokio::sync::Mutex<()>>,
    /// Number of runs in progress that may write.
    runs: AtomicUsize,
    /// Set once this layout has removed the temporary files of killed writers.
    tidied: tokio::sync::OnceCell<()>,
}

impl Layout {
    /// Returns the layout in the folder `path`. Does not read or write files. If the layout does not exist, a listing
    /// of its tags fails with [`ErrorKind::NotFound`], and the first write of content creates the layout.
    #[must_use]
    pub fn open(path: &Path) -> Arc<Self> {
        Self::open_as("oci-layout", path, Disk::new(path))
    }

    /// Returns the layout of the repository `name` in the tree of layouts below the folder `root`. Does not read or
    /// write files. There are two differences from [`Layout::open`]:
    ///
    /// - The folder of a new layout can already contain folders of other layouts.
    /// - transship follows no symbolic link below `root`.
    #[must_use]
    pub fn open_in_tree(root: &Path, name: &RepositoryName) -> Arc<Self> {
        Self::open_as("oci-layout", &root.join(name.as_str()), Disk::in_tree(root, name))
    }

    /// Returns the archive at `path`. Does not read or write files. Writes go to a new file beside the archive, and
    /// [`Layout::publish`] replaces the archive by the new file. Before `publish`, this value reads the new file, and
    /// other values for the same path read the old archive.
    #[must_use]
    pub fn open_archive(path: &Path) -> Arc<Self> {
        Self::open_as("oci-archive", path, Disk::in_archive(path))
    }

    fn open_as(kind: &str, path: &Path, disk: Disk) -> Arc<Self> {
        Arc::new(Self {
            scope: Scope::new(&format!("{kind}:{}", lexically_absolute(path).display())),
            context: ErrorContext { place: format!("{kind}:{}", path.display()).into() },
            disk: Arc::new(disk),
            calls: Calls::new(),
            facts: Arc::default(),
            changes: Arc::default(),
            writer: Arc::default(),
            runs: AtomicUsize::new(0),
            tidied: tokio::sync::OnceCell::new(),
        })
    }

    /// Runs `work` on the files, in a thread for blocking calls. If the caller drops the future after `work` has
    /// started, `work` still runs to its end.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let disk = Arc::clone(&self.disk);
        self.calls.run(move || work(&disk)).await
    }

    /// Waits until no other task of this layout writes.
    async fn acquire_writer(&self) -> WriterGuard {
        Arc::clone(&self.writer).lock_owned().await
    }

    /// Runs `work` while no other task or process changes the layout. If the layout is missing, creates the layout.
    async fn under_lock<T: Send + 'static>(
        &self,
        guard: WriterGuard,
        work: impl FnOnce(&Disk) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.on_disk(Disk::create_root).await?;
        let started = tokio::time::Instant::now();
        // Poll for the lock: a blocking wait could not be cancelled and has no time limit.
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
            // `work` owns both guards. So the locks last until `work` ends, even if the caller drops the future.
            let _held = (guard, lock);
            disk.create_content()?;
            work(disk)
        })
        .await
    }

    /// Creates the missing files of the layout. The first call also removes the temporary files of killed writers.
    async fn prepare(&self) -> Result<(), Fault> {
        if !self.on_disk(Disk::is_complete).await? {
            self.under_lock(self.acquire_writer().await, |_| Ok(())).await?;
        }
        let tidy = || async {
            let removed = self.on_disk(Disk::remove_leftovers).await?;
            if removed > 0 {
                tracing::info!(place = %self.context.place, removed, "removed temporary files of killed writers");
            }
            Ok(())
        };
        self.tidied.get_or_try_init(tidy).await.copied()
    }

    /// Prepares the layout and runs `work`, which writes content. If another run publishes the archive between these
    /// two steps, repeats both steps.
    async fn write_content<T: Send + 'static>(
        &self,
        work: impl Fn(&Disk) -> Result<T, Fault> + Clone + Send + 'static,
    ) -> Result<T, Fault> {
        loop {
            self.prepare().await?;
            match self.on_disk(work.clone()).await {
                Err(Fault::NotStarted { .. }) => {}
                result => return result,
            }
        }
    }

    async fn list(&self) -> Result<Vec<TagEntry>, Fault> {
        let facts = Arc::clone(&self.facts);
        self.on_disk(move |disk| {
            let index = disk.read_index()?.ok_or_else(|| disk.missing_layout_fault())?;
            let (mut list, mut skipped) = (Vec::new(), Skipped::default());
            for (name, named) in index.names() {
                match (name.parse::<Tag>(), named) {
                    (Ok(tag), Named::One(pointer)) => {
                        list.push(TagEntry::Tag(tag, disk.stored_size(pointer)?.map(|_| pointer.digest)))
                    }
                    // If a caller resolves this tag, `find` returns the reason for the missing digest as an error.
                    (Ok(tag), _) => list.push(TagEntry::Tag(tag, None)),
                    (Err(_), named) => skipped.add_name(name, &named),
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
                let Some(pointer) = disk.find(&index, &tag)? else { return Ok(None) };
                Ok(disk
                    .stored_size(pointer)?
                    .map(|size| Descriptor::new(pointer.media_type.clone(), pointer.digest, size)))
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
                    let index = disk.read_index()?.ok_or_else(|| disk.missing_layout_fault())?;
                    let pointer = disk.find(&index, &tag)?.ok_or(Fault::NoManifest)?;
                    (pointer.digest, Some(pointer.media_type.clone()))
                }
            };
            disk.read_manifest(&digest, media_type.as_ref())?.ok_or_else(|| disk.missing_content_fault(&digest))
        })
        .await
    }

    async fn write_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<(), Fault> {
        let content = manifest.clone();
        let has_subject = self
            .write_content(move |disk| {
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

    /// Adds a manifest that is on disk to `index.json`, together with all other queued changes.
    async fn list_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<(), Fault> {
        let mut outcome = self.changes.enqueue(manifest.clone(), tag.cloned());
        let guard = tokio::select! {
            // Check the outcome first: if both are ready, another task has already applied the change.
            biased;
            outcome = &mut outcome => return into_result(outcome),
            guard = self.acquire_writer() => guard,
        };
        let (changes, facts) = (Arc::clone(&self.changes), Arc::clone(&self.facts));
        let applied = self.under_lock(guard, move |disk| {
            changes.apply_all(disk, &facts);
            Ok(())
        });
        if let Err(fault) = applied.await {
            self.changes.fail_all(fault);
        }
        into_result(outcome.await)
    }

    async fn remove(&self, reference: &ManifestRef) -> Result<(), Fault> {
        // Without this check, a deletion from a missing layout would create the layout.
        if self.on_disk(|disk| Ok(disk.read_index()?.is_none())).await? {
            return Ok(());
        }
        let (reference, facts) = (reference.clone(), Arc::clone(&self.facts));
        self.under_lock(self.acquire_writer().await, move |disk| {
            let mut index = disk.read_index()?.ok_or_else(|| disk.missing_layout_fault())?.into_index();
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
        &self.context.place
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
                Err(fault) => stream::iter(vec![Err(self.context.to_error(Step::ListTags, "")(fault))]),
            }
        };
        stream::once(list).flatten().boxed()
    }

    /// If the manifest file of a tag is missing, or has another length than the entry in `index.json` states, returns
    /// `None`. Then a copy to this layout writes the tag again.
    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        self.find(reference).await.map_err(self.context.to_error(Step::Resolve, reference))
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        self.read_manifest(reference).await.map_err(self.context.to_error(Step::ReadManifest, reference))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        let wanted = blob.clone();
        let opened =
            self.on_disk(move |disk| Ok((disk.open_whole(&wanted, offset)?, disk.blob_path(&wanted.digest)))).await;
        let opened = opened.map_err(self.context.to_error(Step::ReadBlob, blob.digest))?;
        Ok(read::stream_blob(opened, blob, offset, self.context.clone(), self.calls.clone()))
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        let digest = blob.digest;
        self.on_disk(move |disk| disk.blob_size(&digest)).await.ok()?
    }

    async fn referrers(&self, subject: &Digest, _fallback: Listed) -> Result<Referrers, StoreError> {
        let (wanted, facts) = (*subject, Arc::clone(&self.facts));
        let found = self.on_disk(move |disk| referrers::find(disk, &facts, &wanted)).await;
        found.map_err(self.context.to_error(Step::ListReferrers, subject))
    }
}

#[async_trait]
impl Target for Layout {
    /// If the file of the blob has a wrong length, returns false, so the next upload repairs the layout.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let wanted = blob.clone();
        let size = self.on_disk(move |disk| disk.blob_size(&wanted.digest)).await;
        Ok(size.map_err(self.context.to_error(Step::FindBlob, blob.digest))? == Some(blob.size))
    }

    async fn find_or_begin(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        let digest = blob.digest;
        let size = self.on_disk(move |disk| disk.blob_size(&digest)).await;
        match size.map_err(self.context.to_error(Step::FindBlob, digest))? {
            Some(size) if size == blob.size => Ok(BlobLookup::Found),
            Some(size) => Ok(BlobLookup::OtherLength(size)),
            None => Ok(self.begin_upload(blob, None).await?.into()),
        }
    }

    /// A layout has no other repositories, so this function never mounts a blob.
    async fn begin_upload(&self, blob: &Descriptor, _from: Option<&RepositoryName>) -> Result<UploadStart, StoreError> {
        let length = blob.size;
        let begin = self.write_content(move |disk| disk.create_temporary(length));
        let file = begin.await.map_err(self.context.to_error(Step::BeginUpload, blob.digest))?;
        let (disk, calls, context) = (Arc::clone(&self.disk), self.calls.clone(), self.context.clone());
        Ok(UploadStart::Session(Box::new(upload::Session { disk, calls, context, digest: blob.digest, file })))
    }

    /// Makes the manifest durable, and then writes the tag. If the tag moves, the entry of the previous manifest is
    /// removed from `index.json`, but the file of the previous manifest stays. A referrer keeps its entry, without the
    /// tag.
    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError> {
        let subject = tag.map_or_else(|| manifest.digest().to_string(), Tag::to_string);
        self.write_manifest(manifest, tag).await.map_err(self.context.to_error(Step::WriteManifest, subject))?;
        Ok(ReferrerLink::Listed)
    }

    async fn keep_root(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let digest = manifest.digest();
        self.list_manifest(manifest, None).await.map_err(self.context.to_error(Step::WriteManifest, digest))
    }

    /// Does not delete the blobs of a manifest, because other manifests can use the same blobs.
    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError> {
        self.remove(reference).await.map_err(self.context.to_error(Step::Delete, reference))
    }
}

/// Guard of the lock for the writing tasks of one layout.
type WriterGuard = tokio::sync::OwnedMutexGuard<()>;

/// Returns the outcome of a change of `index.json`. If the sender was dropped, the program is shutting down.
fn into_result(outcome: Result<Outcome, tokio::sync::oneshot::error::RecvError>) -> Result<(), Fault> {
    outcome.unwrap_or_else(|_| Err(Arc::new(Fault::Ending))).map_err(Fault::Shared)
}

/// Context of errors: the name of the layout.
#[derive(Debug, Clone)]
struct ErrorContext {
    place: Arc<str>,
}

impl ErrorContext {
    /// Returns a function for `map_err` that turns a fault into an error of this step and subject.
    fn to_error(&self, step: Step, subject: impl std::fmt::Display) -> impl FnOnce(Fault) -> StoreError {
        let (place, subject) = (Arc::clone(&self.place), subject.to_string());
        move |fault| {
            let kind: ErrorKind = fault.kind();
            StoreError::new(&place, step, subject, kind, fault)
        }
    }
}

/// Returns the absolute path without `.` and `..`. Does not read the disk. So if a symbolic link leads to a folder, the
/// link and the folder have different results. If runs use both paths, transship sends their common blobs twice, which
/// is harmless.
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
