//! Storage traits: the interface between the code that copies content and the endpoints that store the content.
//!
//! [`Source`] is a readable repository, and [`Target`] is a readable and writable repository. The modules `registry`
//! and `layout` implement these traits. The module `copy` calls the methods of these traits. A method that only some
//! endpoints support has a default implementation.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};

mod error;
mod upload_session;
mod verified;

pub use error::{ErrorKind, Side, Step, StoreError};
pub use upload_session::{ProgressSink, UploadProgress, UploadSession};
pub use verified::Verified;

/// Stream of bytes in order; not verified. [`Verified`] verifies the bytes.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// Storage whose repositories share blobs. The name of a scope is a registry's host or a layout's path. A target can
/// mount a blob from any other repository of the same scope.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Creates the scope of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Entry of a tag listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagEntry {
    /// A tag, with its digest if the listing includes the digest.
    Tag(Tag, Option<Digest>),
    /// A tag that the registry reports as locked, with its digest if the listing includes the digest. No client can
    /// write a locked tag.
    Locked(Tag, Option<Digest>),
    /// A name that is not a valid tag. No client can request such a name, so the run reports and skips the name.
    Unusable(String),
    /// Message for people about content without a tag. The message includes the digest of the content, if known.
    Skipped(String),
}

/// Result of a lookup of an item in a listing, before any request for the item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listed {
    /// The list proves that the item does not exist, so no request for the item is needed.
    Absent,
    /// The item possibly exists: there is no list, the list is possibly incomplete, or the list has the item.
    #[default]
    Possible,
}

/// Reserved manifest reads. The drop of this value releases the unused reads. See [`Source::reserve_manifest_reads`].
pub type Reservation = Option<Box<dyn Any + Send + Sync>>;

/// Referrers of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referrers {
    /// The referrers, in the order of the list. The list is a hint: only the manifest of a referrer proves that the
    /// referrer names the subject.
    pub manifests: Vec<Descriptor>,
    /// The manifest under the fallback tag. `None` if the source did not read the list from the fallback tag.
    pub fallback: Option<Manifest>,
    /// The reason why the list is possibly incomplete. `None` if the list is complete.
    pub doubt: Option<String>,
}

/// One readable repository at one endpoint.
///
/// Every method is cancel safe: a dropped future leaves no state at the source. The implementations retry failed
/// requests themselves.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// Returns the name of the endpoint in the form of `sync.yaml`: `docker.io/library/python`,
    /// `oci-layout:/srv/airgap/kubectl`.
    fn place(&self) -> &str;

    /// Returns the scope that stores the endpoint's blobs.
    fn scope(&self) -> Scope;

    /// Returns the repository's name within its registry. `None` if no target can mount blobs from this endpoint.
    fn repository(&self) -> Option<&RepositoryName>;

    /// Returns the identity of the requests, for the evidence: a user name or `anonymous`, never a secret.
    fn identity(&self) -> String;

    /// Lists the tags, by the cheapest listing of the endpoint. If the list is truncated, the stream ends with an
    /// error. If the repository does not exist, the error is [`ErrorKind::NotFound`].
    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>>;

    /// Resolves a tag or digest to its descriptor. `None` if there is no such manifest. If the endpoint can report the
    /// digest without the body of the manifest, does not read the body.
    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError>;

    /// Reads a manifest. If the bytes do not match the requested digest, the result is [`ErrorKind::Corrupt`]. For a
    /// tag, the bytes must match the digest that the endpoint states.
    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError>;

    /// Reads a blob's bytes from `offset`, which is at most the blob's size. The bytes are not verified.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError>;

    /// Returns the length in bytes that the endpoint states for a blob whose descriptor has a wrong size. `None` if the
    /// endpoint states no length. The length is not verified.
    async fn blob_length(&self, _blob: &Descriptor) -> Option<u64> {
        None
    }

    /// Lists the referrers of `subject`. If the endpoint cannot list all referrers, the result has a
    /// [`Referrers::doubt`] or is an error.
    ///
    /// `fallback` is the result of a lookup of the fallback tag in the tag listing. If the tag listing proves that the
    /// fallback tag is absent, and the endpoint has no referrers API, the source sends no request.
    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError>;

    /// Returns true if [`Source::tags`] certainly returns digests. Then the caller needs no HEAD request for each tag.
    fn lists_digests(&self) -> bool {
        false
    }

    /// Returns true if a quota counts the reads of manifests, but not the lookups of digests (Docker Hub). Then the
    /// caller always calls [`Source::resolve`] before [`Source::manifest`].
    fn counts_manifest_reads(&self) -> bool {
        false
    }

    /// Returns true if the source reads content by digest from mirrors. Then the caller reads a tag's manifest only by
    /// its digest. If a mirror returned wrong bytes, a second read can succeed, because the source then skips this
    /// mirror.
    fn is_mirrored(&self) -> bool {
        false
    }

    /// Returns the number of remaining manifest reads within the quota: [`u64::MAX`] if there is no quota, `None` if
    /// the number is unknown.
    fn manifest_reads_left(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    /// Waits until a response shows the remaining manifest reads, or shows that the endpoint has no quota. If no other
    /// task sends a request, this method never returns. The default, for endpoints without a quota, returns at once.
    /// Cancel safe.
    async fn wait_until_manifest_reads_known(&self) {}

    /// Reserves one read for each of these manifests: all or none. If the quota is too small, the result is
    /// [`ErrorKind::QuotaSpent`].
    async fn reserve_manifest_reads(&self, _manifests: &[Digest]) -> Result<Reservation, StoreError> {
        Ok(None)
    }
}

/// Result of starting an upload.
pub enum UploadStart {
    /// The endpoint mounted the blob: the blob is in the repository now.
    Mounted,
    /// An open session that waits for the bytes.
    Session(Box<dyn Upload>),
}

/// Result of [`Target::find_or_begin`].
pub enum BlobLookup {
    /// The blob was already in the repository.
    Found,
    /// The repository has a blob of this digest with this length in bytes, which differs from the size in the
    /// descriptor.
    OtherLength(u64),
    /// The endpoint mounted the blob: the blob is in the repository now.
    Mounted,
    /// An open session that waits for the bytes.
    Session(Box<dyn Upload>),
}

impl From<UploadStart> for BlobLookup {
    fn from(start: UploadStart) -> Self {
        match start {
            UploadStart::Mounted => Self::Mounted,
            UploadStart::Session(session) => Self::Session(session),
        }
    }
}

/// Upload in progress. The blob is in the repository only after [`Upload::send`] has returned without an error.
#[async_trait]
pub trait Upload: Send {
    /// Sends all bytes and commits the blob. If `bytes` ends with an error, `send` returns that error and commits
    /// nothing. If the caller drops the future, the session stays open until the endpoint removes the session.
    async fn send(self: Box<Self>, bytes: Verified) -> Result<(), StoreError>;

    /// Returns the part of the blob that the endpoint has stored. The caller must send only the bytes after that part.
    /// `None` for a new upload.
    fn confirmed(&self) -> Option<&UploadProgress> {
        None
    }

    /// Cancels the session at the endpoint. Ignores failures.
    async fn cancel(self: Box<Self>);
}

/// One readable and writable repository at one endpoint.
#[async_trait]
pub trait Target: Source {
    /// Returns true if the repository has a blob with the size of the descriptor. If the stored blob has a different
    /// length and an upload would replace this blob, returns false. If an upload would not replace this blob, returns
    /// [`ErrorKind::Corrupt`].
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError>;

    /// Starts the upload of a blob. If `from` is a repository of the same scope, the endpoint first tries to mount the
    /// blob from `from`. If there is no mount, the endpoint opens a session. The caller must send the blob in this
    /// session or cancel the session.
    async fn begin_upload(&self, blob: &Descriptor, from: Option<&RepositoryName>) -> Result<UploadStart, StoreError>;

    /// Looks for a blob. If the repository lacks the blob, starts its upload. The default calls [`Target::has_blob`],
    /// then [`Target::begin_upload`] without a mount. Some endpoints combine both steps in one request, and do not
    /// compare the length of an existing blob. Other endpoints compare the length: if the length is wrong, these
    /// endpoints return [`BlobLookup::OtherLength`] and start no upload.
    async fn find_or_begin(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        if self.has_blob(blob).await? {
            return Ok(BlobLookup::Found);
        }
        Ok(self.begin_upload(blob, None).await?.into())
    }

    /// Starts the upload of a blob that replaces a stored blob of the same digest with a wrong length. `_stored` is the
    /// wrong length, in bytes.
    async fn begin_replacement(&self, blob: &Descriptor, _stored: u64) -> Result<UploadStart, StoreError> {
        self.begin_upload(blob, None).await
    }

    /// Resumes an upload of this blob that an earlier process did not finish. Returns `None` if the endpoint no longer
    /// has the session. Also returns `None` if the stored part of the blob does not match the saved progress.
    async fn resume_upload(
        &self,
        _blob: &Descriptor,
        _saved: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        Ok(None)
    }

    /// Returns the maximum number of bytes that a new upload buffers in memory: the length of one chunk, or 0 if the
    /// upload uses no chunks.
    fn memory_per_upload(&self) -> u64 {
        0
    }

    /// Writes a manifest under its digest, and also under `tag` if `tag` is given. The repository must already have all
    /// content that the manifest lists. Otherwise the endpoint can return [`ErrorKind::MissingContent`].
    ///
    /// For a manifest with a subject, the result shows whether the endpoint lists the manifest as a referrer
    /// automatically. If the endpoint does not list the manifest, the caller calls [`Target::link_referrers`].
    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError>;

    /// Records that a manifest without a tag was copied on its own, and not as a child of an index. An image layout
    /// lists the manifest in `index.json`, because a garbage collection could otherwise remove the manifest.
    async fn keep_root(&self, _manifest: &Manifest) -> Result<(), StoreError> {
        Ok(())
    }

    /// Adds `referrers` to the list of referrers of `subject` under the fallback tag. The caller has already pushed the
    /// referrers. Only endpoints that do not list referrers automatically need this call.
    ///
    /// - If a list exists, the implementation adds the referrers to this list under a lock.
    /// - If no list exists, the implementation writes `referrers.fallback` verbatim.
    ///
    /// The implementation requests the existing list even if a tag listing lacks the fallback tag, because a tag
    /// listing can be incomplete.
    async fn link_referrers(&self, _subject: &Digest, _referrers: &Referrers) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns true if a tag in the form of a fallback tag points to a list of referrers. Other content must not
    /// replace such a list.
    async fn has_referrers_list(&self, _tag: &Tag) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Deletes a tag or a manifest. If the tag or manifest does not exist, succeeds. An endpoint that cannot delete
    /// returns [`ErrorKind::Unsupported`].
    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError>;
}

/// Result of a push of a manifest: whether the endpoint lists the manifest as a referrer of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferrerLink {
    /// The endpoint lists the manifest as a referrer, or the manifest has no subject.
    Listed,
    /// The manifest has a subject, but the endpoint did not confirm that the list of referrers contains the manifest.
    Unlisted,
}
