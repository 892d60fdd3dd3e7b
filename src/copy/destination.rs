//! Target of a batch, and records of the content that the batch has written to the target.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::oci::{Digest, Tag};
use crate::store::{ReferrerLink, Target};

/// Cell of one manifest. The cell ensures that a batch writes the manifest by digest only once.
type WrittenCell = Arc<OnceCell<ReferrerLink>>;

/// Target of a batch, and records of the batch's writes to the target.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) target: Arc<dyn Target>,
    contents: Contents,
    /// Cells of the manifests that this batch writes by digest.
    written: Mutex<HashMap<Digest, WrittenCell>>,
    /// Cells of the lists of referrers that this batch writes. Each cell ensures that the batch writes the list only
    /// once.
    linked: Mutex<HashMap<Linked, Arc<OnceCell<()>>>>,
    /// Cells of the signature tags that this batch writes or finds to be correct.
    signed: Mutex<HashMap<Tag, Arc<OnceCell<()>>>>,
    /// True after the target has denied a read of its content.
    is_unreadable: AtomicBool,
}

/// Key of a list of referrers: the subject, and the only referrer in the list. `None` means that the list contains all
/// referrers of the subject.
type Linked = (Digest, Option<Digest>);

/// Content of a target repository before a batch starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Contents {
    /// The repository is empty. The batch requests only content that the batch itself has written.
    Nothing,
    /// The repository may contain any content.
    #[default]
    Unknown,
}

impl Destination {
    pub(super) fn new(target: Arc<dyn Target>, contents: Contents) -> Self {
        let (written, linked, signed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { target, contents, written, linked, signed, is_unreadable: AtomicBool::default() }
    }

    /// Records that the target has denied a read of its content. Only the first call returns true.
    pub(super) fn is_first_unreadable(&self) -> bool {
        !self.is_unreadable.swap(true, Ordering::Relaxed)
    }

    /// Returns true if the target was empty before the batch.
    pub(super) fn is_empty(&self) -> bool {
        self.contents == Contents::Nothing
    }

    /// Returns the cell that is set once a signature's tag is correct at the target.
    pub(super) fn signature_cell(&self, tag: &Tag) -> Arc<OnceCell<()>> {
        self.signed.lock().entry(tag.clone()).or_default().clone()
    }

    pub(super) fn has_signed(&self, tag: &Tag) -> bool {
        let signed = self.signed.lock();
        signed.get(tag).is_some_and(|cell| cell.initialized())
    }

    /// Returns the cell that is set once a manifest has been written by digest.
    pub(super) fn written_cell(&self, digest: Digest) -> Arc<OnceCell<ReferrerLink>> {
        self.written.lock().entry(digest).or_default().clone()
    }

    /// Records the result of a repeated write of a manifest.
    pub(super) fn record_written(&self, digest: Digest, link: ReferrerLink) {
        let cell = Arc::new(OnceCell::new_with(Some(link)));
        self.written.lock().insert(digest, cell);
    }

    /// Returns the cell that is set once the batch has written the list of the referrers of `subject`. If `referrer` is
    /// set, the list contains only this referrer.
    pub(super) fn referrers_cell(&self, subject: Digest, referrer: Option<Digest>) -> Arc<OnceCell<()>> {
        self.linked.lock().entry((subject, referrer)).or_default().clone()
    }

    /// Returns true if the batch has written the manifest as a referrer, and the target does not list this referrer
    /// automatically.
    pub(super) fn is_unlisted(&self, digest: &Digest) -> bool {
        let written = self.written.lock();
        written.get(digest).and_then(|cell| cell.get()) == Some(&ReferrerLink::Unlisted)
    }
}
