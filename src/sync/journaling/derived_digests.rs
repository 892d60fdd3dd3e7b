//! Derived digests: the digests that a target should have, each for a digest of the source. The two differ if an index
//! is derived for some platforms. The journal stores derived digests, so that a run requests no manifest of an
//! unchanged tag.

use crate::copy::{Batch, CopyError};
use crate::journal::Journal;
use crate::oci::{Digest, Platform, Tag};

/// Derived digests of one pair of repositories, stored in the journal. Without a journal, each run derives them again.
pub(crate) struct DerivedDigests {
    journal: Option<Journal>,
    /// The platforms as one text. `None` if the target should have the source's own digest.
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

    /// Returns the digest that the target should have for `digest` of the source: `digest` itself, or, with platforms,
    /// the digest of the derived index.
    pub(crate) async fn derive(&self, batch: &Batch, digest: Digest) -> Result<Digest, CopyError> {
        let Some(platforms) = &self.platforms else { return Ok(digest) };
        if let Some(known) = self.find(digest, platforms).await {
            return Ok(known);
        }
        let derived = batch.derived_digest(digest).await?;
        self.record(digest, platforms, derived).await;
        Ok(derived)
    }

    /// Returns the digest of the list of referrers that was written to `target` for the source's list `listed`.
    pub(crate) async fn find_copied_referrers(&self, target: &str, listed: Digest) -> Option<Digest> {
        self.find(listed, &format!("referrers at {target}")).await
    }

    /// Records that `written` is the digest of the list of referrers at `target` for the source's list `listed`.
    pub(super) async fn record_referrers(&self, target: &str, listed: Digest, written: Digest) {
        self.record(listed, &format!("referrers at {target}"), written).await;
    }

    /// Returns true if an earlier run has found that the source's list `listed` names a referrer that the source does
    /// not have. Otherwise records that this run has found it.
    pub(crate) async fn confirm_incomplete_list(&self, target: &str, listed: Digest) -> bool {
        let key = format!("incomplete referrers at {target}");
        let is_known = self.find(listed, &key).await.is_some();
        if !is_known {
            self.record(listed, &key, listed).await;
        }
        is_known
    }

    /// Returns the subject that [`DerivedDigests::record_list_subject`] recorded for `content` under a tag that has the
    /// form of a referrers list; `None` without a record.
    pub(crate) async fn list_subject(&self, tag: &Tag, content: Digest) -> Option<Digest> {
        self.find(content, &format!("subject under {tag}")).await
    }

    /// Records that `content` is the list of referrers of `subject`. For content that is not such a list, the caller
    /// passes the digest of the content itself as the subject.
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
