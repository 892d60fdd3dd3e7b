//! Derived digests. If an entry selects platforms, a target gets an index of only these platforms. The digest of this
//! index is the derived digest. The journal stores each derived digest, so a run does not request the manifest of an
//! unchanged tag. The journal stores facts about lists of referrers in the same way.

use crate::copy::{Batch, CopyError};
use crate::journal::Journal;
use crate::oci::{Digest, Platform, Tag};

/// Derived digests of one pair of repositories, stored in the journal. Without a journal, each run derives the digests
/// again.
pub(crate) struct DerivedDigests {
    journal: Option<Journal>,
    /// Names of the selected platforms, such as `linux/amd64,linux/arm64`. `None` if the entry selects no platforms.
    /// The target then gets the source's own digest.
    platforms: Option<String>,
}

impl DerivedDigests {
    pub(crate) fn new(journal: Option<Journal>, platforms: Option<&[Platform]>) -> Self {
        let platforms = platforms.map(|platforms| {
            let mut names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            names.sort();
            names.dedup();
            names.join(",")
        });
        Self { journal, platforms }
    }

    /// Returns the digest that the target should have for `digest` of the source. Without platforms, the result is
    /// `digest`. With platforms, the result is the digest of the derived index.
    pub(crate) async fn derive(&self, batch: &Batch, digest: Digest) -> Result<Digest, CopyError> {
        let Some(platforms) = &self.platforms else { return Ok(digest) };
        if let Some(known) = self.find(digest, platforms).await {
            return Ok(known);
        }
        let derived = batch.derived_digest(digest).await?;
        self.record(digest, platforms, derived).await;
        Ok(derived)
    }

    /// Returns the digest of the list of referrers at `target` after a copy of the source's list `listed`. Returns
    /// `None` if [`DerivedDigests::record_referrers`] has not recorded the digest.
    pub(crate) async fn find_copied_referrers(&self, target: &str, listed: Digest) -> Option<Digest> {
        self.find(listed, &format!("referrers at {target}")).await
    }

    /// Records the digest of the list of referrers at `target` (`written`) after a copy of the source's list `listed`.
    pub(super) async fn record_referrers(&self, target: &str, listed: Digest, written: Digest) {
        self.record(listed, &format!("referrers at {target}"), written).await;
    }

    /// Call this method if the source's list `listed` names a referrer that the source does not have. Returns true if
    /// an earlier call has recorded this list for `target`. Otherwise records the list and returns false.
    pub(crate) async fn confirm_incomplete_list(&self, target: &str, listed: Digest) -> bool {
        let key = format!("incomplete referrers at {target}");
        let is_known = self.find(listed, &key).await.is_some();
        if !is_known {
            self.record(listed, &key, listed).await;
        }
        is_known
    }

    /// Returns the subject of the list of referrers `content` under `tag`. If `content` is not a list of referrers,
    /// returns `content` itself. Returns `None` if [`DerivedDigests::record_list_subject`] has not recorded the
    /// subject.
    pub(crate) async fn list_subject(&self, tag: &Tag, content: Digest) -> Option<Digest> {
        self.find(content, &format!("subject under {tag}")).await
    }

    /// Records that `content` under `tag` is the list of referrers of `subject`. If `content` is not a list of
    /// referrers, the caller passes `content` as `subject`.
    pub(crate) async fn record_list_subject(&self, tag: &Tag, content: Digest, subject: Digest) {
        self.record(content, &format!("subject under {tag}"), subject).await;
    }

    async fn find(&self, digest: Digest, key: &str) -> Option<Digest> {
        let journal = self.journal.as_ref()?;
        journal.find_derived(digest, key).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot query the journal for a derived digest: the digest is derived again");
            None
        })
    }

    async fn record(&self, digest: Digest, key: &str, derived: Digest) {
        if let Some(journal) = &self.journal
            && let Err(error) = journal.record_derived(digest, key, derived).await
        {
            tracing::warn!(%error, "cannot record a derived digest: the next run derives the digest again");
        }
    }
}
