//! What a copy tells while it runs and when something arrived. Values only: who listens decides what to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};

use crate::oci::{Digest, ManifestRef, MediaType, Tag};

/// A blob on its way to one target, shared with whoever shows progress.
#[derive(Debug)]
pub struct Transfer {
    /// The repository that it is read from.
    pub source: String,
    /// The repository that it is written to.
    pub target: String,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What the target had of it before, in bytes.
    before: u64,
    sent: AtomicU64,
}

impl Transfer {
    /// A transfer that has moved nothing yet.
    #[must_use]
    pub fn new(source: &str, target: &str, digest: Digest, size: u64) -> Arc<Self> {
        Self::going_on(source, target, digest, size, 0)
    }

    /// A transfer that has moved nothing yet, of a blob of which an earlier process has sent `before` bytes.
    #[must_use]
    pub fn going_on(source: &str, target: &str, digest: Digest, size: u64, before: u64) -> Arc<Self> {
        let (source, target, sent) = (source.into(), target.into(), AtomicU64::new(0));
        Arc::new(Self { source, target, digest, size, before, sent })
    }

    /// Counts bytes that were handed to the target.
    pub fn advance(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that this transfer has handed to the target so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How far into the blob that is, in bytes: with what an earlier process has sent.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.before.saturating_add(self.sent())
    }
}

/// How a blob came to be at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobOutcome {
    /// It was sent.
    Copied,
    /// It was mounted from another repository of the target's registry.
    Mounted,
    /// It was there already.
    Found,
}

/// Something that happened during a copy.
#[derive(Debug, Clone)]
pub enum Event {
    /// Bytes of a blob begin to move.
    TransferStarted(Arc<Transfer>),
    /// They all arrived and were committed.
    TransferFinished(Arc<Transfer>),
    /// They did not; the reason is told by the tag's own outcome.
    TransferFailed(Arc<Transfer>, String),
    /// The tag of a signature was written, on the way to the tag that it belongs to.
    SignatureArrived(Box<Arrival>),
    /// A tag was written that the order does not name: the one that keeps what a tag stood for, or a list of referrers. It has evidence, and
    /// is no tag of the run's report.
    AuxiliaryTagWritten(Box<Arrival>),
}

/// How many blobs of a closure came to the target in which way, each digest counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BlobCounts {
    /// Sent by this copy.
    pub copied: u64,
    /// Mounted from a sibling repository.
    pub mounted: u64,
    /// Found at the target.
    pub found: u64,
}

/// Something that belongs to a digest, was wanted, and did not come with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeftBehind {
    /// Its name: a referrer by its digest and that of its subject, a signature by its tag.
    pub what: String,
    /// Why it did not come.
    pub reason: String,
}

impl LeftBehind {
    /// The name of a referrer.
    pub(super) fn referrer(referrer: Digest, subject: Digest) -> String {
        format!("referrer {referrer} of {subject}")
    }

    /// The name of a signature.
    pub(super) fn signature(tag: &Tag) -> String {
        format!("signature {tag}")
    }
}

/// The reason for which a tag was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalKind {
    /// The order is about it: a tag, or a digest without one, and signatures that came with it.
    #[default]
    Tag,
    /// It keeps what a tag stood for before that moved: `TAG.previous-<12 hex>`. The bytes are the target's own.
    KeptPrevious,
    /// It is the list of what refers to a subject, `sha256-<hex>`, at a target that does not list referrers by itself.
    ReferrersList,
}

impl ArrivalKind {
    const ALL: [Self; 3] = [Self::Tag, Self::KeptPrevious, Self::ReferrersList];

    /// The word for it, as it is in the journal, in JSON and in CSV: `tag`, `kept_previous` or `referrers_list`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::KeptPrevious => "kept_previous",
            Self::ReferrersList => "referrers_list",
        }
    }

    /// The kind that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// The evidence that a digest arrived: its whole closure is at the target, verified, and the tag (if any) points at it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Arrival {
    /// The reason for which the tag was written.
    pub kind: ArrivalKind,
    /// The source repository.
    pub source: String,
    /// What was asked of the source.
    #[serde(serialize_with = "as_text")]
    pub source_reference: ManifestRef,
    /// The digest that the reference stood for at the source.
    pub source_digest: Digest,
    /// The target repository.
    pub target: String,
    /// The tag that was written at the target, `None` for a copy by digest.
    pub tag: Option<Tag>,
    /// The digest at the target. Differs from `source_digest` for an index derived for some platforms, and for a list of referrers: there
    /// the source's digest is that of the subject. Before a list is written its digest is not known, and the subject's stands for it.
    pub digest: Digest,
    /// The digest that the tag had at the target before, by what the copy compared; `None` where there was none, or no tag.
    pub previous: Option<Digest>,
    /// The manifest's media type.
    pub media_type: MediaType,
    /// How many manifests the closure has, referrers included.
    pub manifests: u64,
    /// How its blobs came.
    pub blobs: BlobCounts,
    /// Bytes of blobs and manifests that this copy sent; signatures that have evidence of their own are left out.
    pub bytes: u64,
    /// Who the source was read as.
    pub source_identity: String,
    /// Who the target was written as.
    pub target_identity: String,
    /// The referrers that were to be in a list of referrers after this write; none for other kinds. The journal keeps 1,000 at most.
    pub listed: Vec<Digest>,
    /// What belongs to the digest and was left behind when it arrived; a later run may have brought it since. The journal keeps 1,000 at
    /// most, and then the count of the others.
    pub left_behind: Vec<LeftBehind>,
    /// When the copy began.
    pub started: DateTime<Utc>,
    /// When the tag was written.
    pub ended: DateTime<Utc>,
}

fn as_text<S: serde::Serializer>(reference: &ManifestRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reference)
}
