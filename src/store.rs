//! The seam between those who move content and those who keep it: what a copy may ask of an endpoint.
//!
//! [`Source`] is one repository that can be read, [`Target`] one that can also be written. `copy` knows these
//! traits and nothing of HTTP or of files; `registry` and `layout` implement them and know nothing of copies.
//! A power that not every endpoint has is a method with a default, never a downcast.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, RepositoryName, Tag};

mod error;
mod suspended;
mod verified;

pub use error::{ErrorKind, Side, Step, StoreError};
pub use suspended::{Progress, Standing, Suspended};
pub use verified::Verified;

/// Bytes on their way, in order. Not verified: see [`Verified`].
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// Where blobs are kept together: within one scope a blob of one repository can be mounted into another, and
/// needs to be sent once only. A registry's host, or a layout's path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The scope of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
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

/// One line of a tag listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagEntry {
    /// A tag, with its digest where the listing tells it.
    Tag(Tag, Option<Digest>),
    /// The same for a tag that the registry says nobody may write: it is locked there.
    Locked(Tag, Option<Digest>),
    /// A name outside the grammar of tags. It cannot be asked for, so it is skipped, by name.
    Unusable(String),
    /// Content that is there and that no tag names: what it is and by which digest it can be selected, for people.
    Skipped(String),
}

/// What a listing has told of something before it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listed {
    /// It was not in a complete list: asking for it can be spared.
    Absent,
    /// There was no list, or it was in it.
    #[default]
    Perhaps,
}

/// Reads that are set aside until it is dropped: see [`Source::reserve_manifest_reads`].
pub type Reservation = Option<Box<dyn Any + Send + Sync>>;

/// What refers to a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Referrers {
    /// The referrers, in the order of the list. Whether each names the subject shows in its own manifest.
    pub manifests: Vec<Descriptor>,
    /// The list as it stands under the fallback tag, where that is where it came from.
    pub fallback: Option<Manifest>,
    /// Why there may be more of them: nobody could tell, so this is never "none". `None` where the list is complete.
    pub doubt: Option<String>,
}

/// One repository at one endpoint, readable.
///
/// Every method may be cancelled by dropping its future; nothing is left behind at the source. Requests that
/// may be repeated are repeated inside: an error that comes out is the last word of this call.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// How people write this endpoint: `docker.io/library/python`, `oci-layout:/srv/airgap/kubectl`.
    fn place(&self) -> &str;

    /// Where its blobs are kept.
    fn scope(&self) -> Scope;

    /// Its name within a registry, `None` where there is none to mount from.
    fn repository(&self) -> Option<&RepositoryName>;

    /// Who it is read and written as, for the evidence: a user name or `anonymous`, never a secret.
    fn identity(&self) -> String;

    /// The tags, as cheaply as this endpoint can list them. A list that breaks off is an error, never an end.
    /// A repository that does not exist is [`ErrorKind::NotFound`].
    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>>;

    /// What a tag or digest stands for; `None` when there is no such manifest. Never fetches the body where the
    /// endpoint can do without.
    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError>;

    /// A manifest. Its bytes hash to the digest that was asked for, or that the endpoint stated for the tag;
    /// otherwise the answer is [`ErrorKind::Corrupt`].
    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError>;

    /// A blob's bytes from `offset` (at most its size) on. Not verified.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError>;

    /// The length in bytes that the endpoint has of a blob, for a descriptor whose size is wrong. `None` where the endpoint does
    /// not say. Nothing is verified: the digest of the bytes decides.
    async fn blob_length(&self, _blob: &Descriptor) -> Option<u64> {
        None
    }

    /// What refers to `subject`. Where that cannot be told, the answer says so ([`Referrers::doubt`]) or is an error; it is never
    /// "none". `fallback` is what the tag listing told of the
    /// fallback tag: an endpoint that has only that need not be asked where the tag is absent.
    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError>;

    /// Whether [`Source::tags`] is known to tell digests: then one page spares a HEAD for each of its tags.
    fn lists_digests(&self) -> bool {
        false
    }

    /// Whether reading a manifest is counted against a quota while asking for its digest is not (Docker Hub): then it is
    /// asked for first, even where it will be read in any case.
    fn counts_manifest_reads(&self) -> bool {
        false
    }

    /// Whether what is addressed by a digest comes from somebody else than who knows the tags, if it can (mirrors). Then a
    /// tag's manifest is read by its digest alone, and bytes that were wrong are worth reading again: from elsewhere.
    fn is_mirrored(&self) -> bool {
        false
    }

    /// How many manifests may still be read where that is counted; [`u64::MAX`] where it is not, `None` where nothing is known.
    fn manifest_reads_left(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    /// Waits until something is known of how many manifests may be read, where that is counted. It never ends where nothing is
    /// asked. Cancel safe.
    async fn knows_manifest_reads(&self) {}

    /// Sets aside the reads of manifests that are worth nothing without each other, all or none; where there are not
    /// enough it is [`ErrorKind::QuotaSpent`]. What was set aside and not read is given back when the reservation is dropped.
    async fn reserve_manifest_reads(&self, _manifests: &[Digest]) -> Result<Reservation, StoreError> {
        Ok(None)
    }
}

/// How an upload begins.
pub enum Begun {
    /// The blob is in the repository now: it was mounted.
    Mounted,
    /// A session waits for the bytes.
    Session(Box<dyn Upload>),
}

/// What came of looking for a blob that may be there, and of beginning to write it where it is not.
pub enum Sought {
    /// The blob was in the repository.
    Found,
    /// The repository has a blob of this digest and of another length than the descriptor states, in bytes: one of the two is wrong.
    OtherLength(u64),
    /// The blob is in the repository now: it was mounted.
    Mounted,
    /// A session waits for the bytes.
    Session(Box<dyn Upload>),
}

impl From<Begun> for Sought {
    fn from(begun: Begun) -> Self {
        match begun {
            Begun::Mounted => Self::Mounted,
            Begun::Session(session) => Self::Session(session),
        }
    }
}

/// An upload in progress. Nothing is in the repository before [`Upload::send`] has returned without error.
#[async_trait]
pub trait Upload: Send {
    /// Sends all bytes and commits them. When `bytes` ends with an error, nothing is committed and that error is
    /// returned. Dropping the future leaves an unfinished session that the endpoint forgets in time.
    async fn send(self: Box<Self>, bytes: Verified) -> Result<(), StoreError>;

    /// From where on the bytes are wanted, where that is not the beginning: see [`Target::resume_upload`].
    fn standing(&self) -> Option<&Standing> {
        None
    }

    /// Gives the session back. Failure to do so is of no consequence and is not told.
    async fn cancel(self: Box<Self>);
}

/// One repository at one endpoint, readable and writable.
#[async_trait]
pub trait Target: Source {
    /// Whether a blob is in the repository. One of another length than the descriptor's is told as absent where the next
    /// upload replaces it, and is [`ErrorKind::Corrupt`] elsewhere.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool, StoreError>;

    /// Begins to write a blob. With `from`, the endpoint first tries to mount it from that repository of the
    /// same scope; where that does not happen the session it opened instead is used.
    async fn begin_upload(&self, blob: &Descriptor, from: Option<&RepositoryName>) -> Result<Begun, StoreError>;

    /// For a blob of which nobody knows whether the repository has it: [`Target::has_blob`], and where it has not,
    /// [`Target::begin_upload`] without a mount. An endpoint that can do both at once does; then the length of what is there is not compared.
    /// Else another length is [`Sought::OtherLength`], and nothing was begun.
    async fn find_or_begin(&self, blob: &Descriptor) -> Result<Sought, StoreError> {
        if self.has_blob(blob).await? {
            return Ok(Sought::Found);
        }
        Ok(self.begin_upload(blob, None).await?.into())
    }

    /// Begins to write a blob over what is there and has `_stored` bytes, which is known to be wrong.
    async fn begin_replacement(&self, blob: &Descriptor, _stored: u64) -> Result<Begun, StoreError> {
        self.begin_upload(blob, None).await
    }

    /// Goes on with an upload of this blob that an earlier process has left. `None` where the endpoint does not know of it any
    /// more, or has another part of the blob than was noted.
    async fn resume_upload(
        &self,
        _blob: &Descriptor,
        _left: &Suspended,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        Ok(None)
    }

    /// How many bytes an upload that begins now holds in memory at most: a chunk, where bytes go in chunks. 0 is no more than
    /// the pieces that it is given.
    fn upload_holds(&self) -> u64 {
        0
    }

    /// Writes a manifest under its digest, and under `tag` where one is given. Everything that it points at must be there
    /// already; an endpoint that misses some of it answers [`ErrorKind::MissingContent`].
    ///
    /// For a manifest with a subject the answer tells whether the endpoint lists it as a referrer by itself;
    /// otherwise see [`Target::link_referrers`].
    async fn push_manifest(&self, manifest: &Manifest, tag: Option<&Tag>) -> Result<ReferrerLink, StoreError>;

    /// Notes that a manifest that was written by its digest is wanted for itself, not as a part of another: an endpoint that
    /// keeps a list of what it holds puts it there, and nobody takes it for garbage.
    async fn keep_root(&self, _manifest: &Manifest) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes `referrers` (already pushed) findable from `subject` at an endpoint that does not do so by itself:
    /// adds them to the list under the fallback tag, which is read again and merged under a lock. Where there is no list
    /// yet, `referrers.fallback` is written verbatim. No listing of tags is believed about that: a list that it left out would be
    /// overwritten.
    async fn link_referrers(&self, _subject: &Digest, _referrers: &Referrers) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether a tag of the form of a fallback tag stands for a list of referrers, of whatever subject: nothing else is to replace it. An
    /// endpoint that needs no such lists has none.
    async fn has_referrers_list(&self, _tag: &Tag) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Deletes a tag or a manifest. One that is not there is no error. An endpoint that does not delete answers
    /// [`ErrorKind::Unsupported`].
    async fn delete(&self, reference: &ManifestRef) -> Result<(), StoreError>;
}

/// Whether a pushed referrer can be found from its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferrerLink {
    /// The endpoint lists it, or it has no subject.
    Listed,
    /// It has a subject, and the endpoint did not say that it lists it.
    Unlisted,
}
