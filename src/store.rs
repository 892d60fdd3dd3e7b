//! Storage traits: the interface between the code that copies content and the endpoints that store it. No HTTP, no
//! files.
//!
//! [`Source`] is a repository that can be read, [`Target`] is a repository that can also be written. `copy` uses these
//! traits and does not know HTTP or files; `registry` and `layout` implement them and do not know copies. A capability
//! that only some endpoints have is a method with a default, never a downcast.

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

/// Stream of bytes in order. Not verified: see [`Verified`].
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// Storage within which blobs are shared: a blob of one repository can be mounted into another repository of the same
/// scope, so each blob must be sent to a scope only once. The name is a registry's host or a layout's path.
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
    /// A tag, with its digest if the listing includes it.
    Tag(Tag, Option<Digest>),
    /// A tag that the registry reports as locked, so that no client may write it. With its digest if the listing
    /// includes it.
    Locked(Tag, Option<Digest>),
    /// A name that is not a valid tag. It cannot be requested, so it is skipped and reported by name.
    Unusable(String),
    /// Content that no tag names: a text for people, with the digest that selects the content if there is one.
    Skipped(String),
}

/// Result of looking an item up in a listing before a request for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listed {
    /// The list proves that the item does not exist: no request for the item is needed.
    Absent,
    /// The item may exist: there is no list, the list may be incomplete, or the list has the item.
    #[default]
    Perhaps,
}

/// Reserved manifest reads; dropping the value releases them. See [`Source::reserve_manifest_reads`].
pub type Reservation = Option<Box<dyn Any + Send + Sync>>;

/// Referrers of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referrers {
    /// The referrers, in the order of the list. The list is a hint: only the manifest of a referrer proves that it
    /// names the subject.
    pub manifests: Vec<Descriptor>,
    /// The manifest under the fallback tag, if the list was read from that tag.
    pub fallback: Option<Manifest>,
    /// The reason why the list may be incomplete; a list with a doubt never means "none". `None` if the list is
    /// complete.
    pub doubt: Option<String>,
}

/// One readable repository at one endpoint.
///
/// Every method is cancel safe: dropping its future leaves nothing behind at the source. Implementations repeat the
/// requests that may be repeated, so a returned error is final for this call.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// Returns the name of the endpoint, in the form that people write: `docker.io/library/python`,
    /// `oci-layout:/srv/airgap/kubectl`.
    fn place(&self) -> &str;

    /// Returns the scope that stores the endpoint's blobs.
    fn scope(&self) -> Scope;

    /// Returns the repository's name within its registry, or `None` if the endpoint has no repository to mount from.
    fn repository(&self) -> Option<&RepositoryName>;

    /// Returns the identity that reads and writes, for the evidence: a user name or `anonymous`, never a secret.
    fn identity(&self) -> String;

    /// Lists the tags, by the cheapest listing that the endpoint offers. A truncated list ends with an error, never
    /// like a complete list. A missing repository causes [`ErrorKind::NotFound`].
    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>>;

    /// Resolves a tag or digest to its descriptor, or to `None` if there is no such manifest. Never fetches the body
    /// unless the endpoint requires it.
    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError>;

    /// Reads a manifest. Its bytes hash to the requested digest, or to the digest that the endpoint stated for the tag;
    /// otherwise the result is [`ErrorKind::Corrupt`].
    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError>;

    /// Reads a blob's bytes from `offset` (at most its size) on. Not verified.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError>;

    /// Returns the length in bytes that the endpoint states for a blob whose descriptor has a wrong size, or `None`
    /// if the endpoint does not state one. Not verified: the digest of the bytes decides.
    async fn blob_length(&self, _blob: &Descriptor) -> Option<u64> {
        None
    }

    /// Lists the referrers of `subject`. If the endpoint cannot list all of them, the result has a [`Referrers::doubt`]
    /// or is an error; the result is never an empty list without doubt. `fallback` is the result of looking the
    /// fallback tag up in the tag listing: if that tag is absent, no request is sent to an endpoint that stores
    /// referrers only under the fallback tag.
    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError>;

    /// Returns true if [`Source::tags`] is known to return digests: then one page saves a HEAD request for each of
    /// its tags.
    fn lists_digests(&self) -> bool {
        false
    }

    /// Returns true if reading a manifest counts against a quota and resolving its digest does not (Docker Hub). Then
    /// the caller resolves the reference first, even if it will certainly read the manifest.
    fn counts_manifest_reads(&self) -> bool {
        false
    }

    /// Returns true if content addressed by digest may come from another server than the tags (mirrors). Then a tag's
    /// manifest is read only by its digest, and a second read after wrong bytes may succeed, because it uses another
    /// server.
    fn is_mirrored(&self) -> bool {
        false
    }

    /// Returns the number of manifests that may still be read within the quota: [`u64::MAX`] if there is no quota,
    /// `None` if the remainder is unknown.
    fn manifest_reads_left(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    /// Waits until the remaining quota of manifest reads is known, or until the endpoint is known to have no quota.
    /// Only the response to a request shows the quota: without a request, this method never returns. The default, for
    /// endpoints without quota, returns at once. Cancel safe.
    async fn wait_until_manifest_reads_known(&self) {}

    /// Reserves the reads of manifests that are useful only together: all of them or none. If the quota does not
    /// suffice, the result is [`ErrorKind::QuotaSpent`]. Dropping the reservation returns the reserved reads that
    /// were not used.
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

/// Result of looking for a blob and, if it is absent, starting its upload.
pub enum BlobLookup {
    /// The blob was already in the repository.
    Found,
    /// The repository has a blob of this digest whose length, in bytes, differs from the size in the descriptor. One of
    /// the two is wrong.
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
    /// Sends all bytes and commits the blob. If `bytes` ends with an error, nothing is committed and `send` returns
    /// that error. Dropping the future leaves an unfinished session, which the endpoint expires in time.
    async fn send(self: Box<Self>, bytes: Verified) -> Result<(), StoreError>;

    /// Returns the part of the blob that the endpoint has stored, or `None` for a new upload. The caller must send the
    /// bytes after that part: see [`Target::resume_upload`].
    fn standing(&self) -> Option<&UploadProgress> {
        None
    }

    /// Cancels the session at the endpoint. A failed cancellation has no consequence and is not reported.
    async fn cancel(self: Box<Self>);
}

/// One readable and writable repository at one endpoint.
#[async_trait]
pub trait Target: Source {
    /// Returns true if the repository has a blob. A blob whose length differs from the descriptor's counts as absent
    /// if the next upload replaces it; at other endpoints it is [`ErrorKind::Corrupt`].
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError>;

    /// Starts the upload of a blob. With `from`, the endpoint first tries to mount the blob from that repository of the
    /// same scope. If the endpoint does not mount the blob, it opens a session, which the caller must use.
    async fn begin_upload(&self, blob: &Descriptor, from: Option<&RepositoryName>) -> Result<UploadStart, StoreError>;

    /// Looks for a blob and starts its upload if the repository does not have it: [`Target::has_blob`], then
    /// [`Target::begin_upload`] without a mount. An endpoint that can combine both steps in one request does so, and
    /// does not compare the length of an existing blob. Other endpoints return [`BlobLookup::OtherLength`] if the
    /// length of an existing blob differs from the descriptor, and start no upload.
    async fn find_or_begin(&self, blob: &Descriptor) -> Result<BlobLookup, StoreError> {
        if self.has_blob(blob).await? {
            return Ok(BlobLookup::Found);
        }
        Ok(self.begin_upload(blob, None).await?.into())
    }

    /// Starts the upload of a blob that replaces an existing blob of `_stored` bytes, which is known to be a wrong
    /// length.
    async fn begin_replacement(&self, blob: &Descriptor, _stored: u64) -> Result<UploadStart, StoreError> {
        self.begin_upload(blob, None).await
    }

    /// Resumes an upload of this blob that an earlier process did not finish. Returns `None` if the endpoint no longer
    /// has the session, or if the stored part of the blob does not match the saved progress.
    async fn resume_upload(
        &self,
        _blob: &Descriptor,
        _saved: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        Ok(None)
    }

    /// Returns the maximum number of bytes that an upload started now buffers in memory: one chunk, if the endpoint
    /// uploads in chunks. 0 means that the upload buffers only the pieces that it receives.
    fn upload_holds(&self) -> u64 {
        0
    }

    /// Writes a manifest under its digest, and also under `tag` if one is given. All content that the manifest lists
    /// must already be in the repository; otherwise the endpoint returns [`ErrorKind::MissingContent`].
    ///
    /// For a manifest with a subject, the result shows if the endpoint lists the manifest as a referrer automatically;
    /// if not, see [`Target::link_referrers`].
    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError>;

    /// Records that a manifest written by its digest is a root, not a part of another manifest. An endpoint that
    /// keeps a list of its content adds the manifest there, so that no garbage collection removes it.
    async fn keep_root(&self, _manifest: &Manifest) -> Result<(), StoreError> {
        Ok(())
    }

    /// Adds `referrers`, which are already pushed, to the list of referrers of `subject` under the fallback tag, at an
    /// endpoint that does not list referrers automatically. The implementation reads the existing list and merges it
    /// under a lock. If there is no list yet, it writes `referrers.fallback` verbatim. The implementation does not
    /// trust a tag listing that lacks the fallback tag: an existing list that the listing omits would be overwritten.
    async fn link_referrers(&self, _subject: &Digest, _referrers: &Referrers) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns true if a tag in the form of a fallback tag points to a list of referrers, of any subject. Other content
    /// must not replace such a list. False at an endpoint that needs no such lists.
    async fn has_referrers_list(&self, _tag: &Tag) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Deletes a tag or a manifest. If it does not exist, the result is no error. An endpoint that cannot delete
    /// returns [`ErrorKind::Unsupported`].
    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError>;
}

/// Result of a push: shows if clients can find the manifest as a referrer of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferrerLink {
    /// The endpoint lists the referrer, or the manifest has no subject.
    Listed,
    /// The manifest has a subject, and the endpoint did not confirm that it lists the manifest.
    Unlisted,
}
