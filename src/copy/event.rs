//! Events of a copy: the progress of blobs, and the evidence of written tags.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};

use crate::json_form;
use crate::oci::{Digest, ManifestRef, MediaType, Tag};

/// Transfer of a blob to one target, shared with the listener that shows progress.
#[derive(Debug)]
pub struct Transfer {
    /// Repository that the blob is read from.
    pub source: String,
    /// Repository that the blob is written to.
    pub target: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Number of bytes of the blob that an earlier process has sent.
    before: u64,
    sent: AtomicU64,
}

impl Transfer {
    /// Creates a transfer that has sent no bytes.
    #[must_use]
    pub fn new(source: &str, target: &str, digest: Digest, size: u64) -> Arc<Self> {
        Self::resumed(source, target, digest, size, 0)
    }

    /// Creates a transfer of a blob whose first `before` bytes were sent by an earlier process.
    #[must_use]
    pub fn resumed(source: &str, target: &str, digest: Digest, size: u64, before: u64) -> Arc<Self> {
        let (source, target, sent) = (source.into(), target.into(), AtomicU64::new(0));
        Arc::new(Self { source, target, digest, size, before, sent })
    }

    /// Adds a number of bytes that the transfer has passed to the target.
    pub fn advance(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the number of bytes that this transfer has passed to the target so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the position within the blob, in bytes. The position includes the bytes that an earlier process has
    /// sent.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.before.saturating_add(self.sent())
    }
}

/// Total size of the blobs that the copies of a run send or expect to send, in bytes. The listener estimates the
/// remaining time from this number. The number grows when a copy reads a manifest. The number shrinks when a target
/// already has a blob.
#[derive(Debug, Default)]
pub struct PlannedBytes(AtomicU64);

impl PlannedBytes {
    /// Adds the size of a blob. Stops at `u64::MAX`, because a manifest can state any size.
    pub fn add(&self, bytes: u64) {
        self.update(|total| total.saturating_add(bytes));
    }

    /// Subtracts the size of a blob that the copy does not send.
    pub fn remove(&self, bytes: u64) {
        self.update(|total| total.saturating_sub(bytes));
    }

    fn update(&self, change: impl Fn(u64) -> u64) {
        // The closure never returns None, so the update always succeeds.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| Some(change(total)));
    }

    /// Returns the current number of bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Outcome of a blob at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobOutcome {
    /// The copy sent the blob.
    Copied,
    /// The target's registry mounted the blob from another repository of the same registry.
    Mounted,
    /// The target already had the blob.
    Found,
}

/// Event during a copy.
#[derive(Debug, Clone)]
pub enum Event {
    /// A transfer of a blob has started.
    TransferStarted(Arc<Transfer>),
    /// All bytes of the blob arrived and were committed.
    TransferFinished(Arc<Transfer>),
    /// The transfer failed for this reason. The copy can send the blob again in a new transfer.
    TransferFailed(Arc<Transfer>, String),
    /// The tag of a signature was written. The tag of the signed image is written later.
    SignatureArrived(Box<Arrival>),
    /// The copy wrote a tag that the copy job does not name: a tag that keeps the previous content of another tag, or
    /// the tag of a list of referrers. The event contains the evidence of the write. The run's report does not contain
    /// the tag.
    AuxiliaryTagWritten(Box<Arrival>),
}

/// Numbers of blobs of a closure, by their outcome at the target. Each digest counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BlobCounts {
    /// Number of blobs that this copy sent.
    pub copied: u64,
    /// Number of blobs that were mounted from another repository of the same registry.
    pub mounted: u64,
    /// Number of blobs that were found at the target.
    pub found: u64,
}

/// Referrer or signature that a copy skipped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct LeftBehind {
    /// Name of the item, such as `referrer sha256:… of sha256:…` or `signature sha256-….sig`.
    pub what: String,
    /// Reason why the item was not copied.
    pub reason: String,
}

impl LeftBehind {
    /// Returns the name of a referrer.
    pub(super) fn referrer(referrer: Digest, subject: Digest) -> String {
        format!("referrer {referrer} of {subject}")
    }

    /// Returns the name of a signature.
    pub(super) fn signature(tag: &Tag) -> String {
        format!("signature {tag}")
    }
}

/// Reason why a tag was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalKind {
    /// The tag of the copy job, or the digest if the job has no tag. Signature tags also have this kind.
    #[default]
    Tag,
    /// The tag `TAG.previous-<12 hex>`, which keeps the content that `TAG` had before the copy overwrote `TAG`. The
    /// content comes from the target, not from the source.
    KeptPrevious,
    /// The tag `sha256-<hex>`, whose content is the list of referrers of a subject. The copy writes this tag at a
    /// target that does not maintain the list of referrers itself.
    ReferrersList,
}

impl ArrivalKind {
    const ALL: [Self; 3] = [Self::Tag, Self::KeptPrevious, Self::ReferrersList];

    /// Returns the name in the journal, in JSON and in CSV: `tag`, `kept_previous` or `referrers_list`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::KeptPrevious => "kept_previous",
            Self::ReferrersList => "referrers_list",
        }
    }

    /// Returns the kind with this name. `None` if the word names no kind.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Evidence of a copy: the whole closure of the digest is at the target and verified. If the copy has a tag, the tag
/// points at the digest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Arrival {
    /// Reason why the tag was written.
    pub kind: ArrivalKind,
    /// Source repository.
    pub source: String,
    /// Reference that was requested from the source.
    #[serde(serialize_with = "as_text")]
    pub source_reference: ManifestRef,
    /// Digest that `source_reference` has at the source.
    pub source_digest: Digest,
    /// Target repository.
    pub target: String,
    /// Tag that was written at the target. `None` for a copy by digest.
    pub tag: Option<Tag>,
    /// Digest at the target. Equal to `source_digest`, except in two cases:
    /// - For an index derived for selected platforms, `digest` is the digest of the derived index.
    /// - For a list of referrers, `source_digest` is the digest of the subject. Before the write, the digest of the
    ///   list is unknown, and `digest` is the digest of the subject too.
    pub digest: Digest,
    /// Digest that the tag had at the target before the copy. `None` if the target did not have the tag, or if no tag
    /// was written.
    pub previous: Option<Digest>,
    /// Media type of the manifest.
    pub media_type: MediaType,
    /// Number of manifests in the closure, referrers included.
    pub manifests: u64,
    /// Numbers of blobs in the closure, by their outcome.
    pub blobs: BlobCounts,
    /// Size of the blobs and manifests that this copy sent, in bytes, without signatures. Each signature has separate
    /// evidence.
    pub bytes: u64,
    /// Identity with which transship read the source.
    pub source_identity: String,
    /// Identity with which transship wrote to the target.
    pub target_identity: String,
    /// For [`ArrivalKind::ReferrersList`], the referrers that the list must contain after the write; otherwise empty.
    /// The journal keeps at most 1,000 referrers.
    pub listed: Vec<Digest>,
    /// Referrers and signatures that the copy skipped. A later run can copy these items. The journal keeps at most
    /// 1,000 items, and the number of the items that the journal omits.
    pub left_behind: Vec<LeftBehind>,
    /// Time at which the copy began.
    #[serde(serialize_with = "json_form::instant")]
    pub started: DateTime<Utc>,
    /// Time at which the tag was written.
    #[serde(serialize_with = "json_form::instant")]
    pub ended: DateTime<Utc>,
}

fn as_text<S: serde::Serializer>(reference: &ManifestRef, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reference)
}
