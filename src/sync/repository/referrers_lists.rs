//! Sync of tags whose name has a reserved form, such as `sha256-<hex>`. Such a tag usually holds the list of referrers
//! of an image, but can hold any content.

use futures_util::StreamExt as _;
use futures_util::stream;

use super::repository_sync::RepositorySync;
use crate::copy::CopyJob;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::ReservedForm;
use crate::store::Side;
use crate::sync::comparison::tag_comparison::query_source_digest;
use crate::sync::journaling::evidence::{record_evidence_and_outcome, record_referrers_list};
use crate::sync::referrers::reserved_tags::{ReservedContent, identify_content};
use crate::sync::referrers::target_lists::{TargetReferrersList, query_referrers_list};
use crate::sync::report::run_report::TagOutcome;

/// Maximum number of tags that a run processes at the same time.
const TAGS_AT_ONCE: usize = 32;

/// List of referrers at the source: the tag and the digest of the list, and the digest of the subject.
struct ReferrersList {
    tag: Tag,
    list: Digest,
    subject: Digest,
}

impl RepositorySync<'_> {
    /// Syncs the tags with a reserved form. The caller must sync all other tags first, because this method skips each
    /// list whose subject the run has already synced.
    pub(super) async fn sync_reserved_tags(&self, reserved: Vec<(Tag, ReservedForm)>) {
        let source = self.pair.source.as_ref();
        let found: Vec<(Tag, ReservedForm, ReservedContent)> = stream::iter(reserved)
            .map(|(tag, form)| async move {
                let digest = match self.known_list(&tag) {
                    Some(known) => Ok(known),
                    None => query_source_digest(source, &self.listing, &ManifestRef::Tag(tag.clone())).await,
                };
                let content = match digest {
                    Ok(digest) => identify_content(&self.batch, &self.derived, &tag, &form, digest).await,
                    // `sync_each` requests the digest again and reports the error.
                    Err(_) => ReservedContent::Ordinary,
                };
                (tag, form, content)
            })
            .buffered(TAGS_AT_ONCE)
            .collect()
            .await;
        let entry = &self.run.request.entry;
        let (mut ordinary, mut lists, mut not_lists) = (Vec::new(), Vec::new(), Vec::new());
        for (tag, form, content) in found {
            let is_named = form.is_named_by(&entry.selection, &tag);
            match content {
                ReservedContent::Ordinary => {
                    not_lists.push(tag.clone());
                    ordinary.push(tag);
                }
                ReservedContent::List { .. } if !entry.referrers && is_named => ordinary.push(tag),
                ReservedContent::List { .. } if !entry.referrers => {
                    tracing::debug!(source = source.place(), %tag, "skipped: a list of referrers, and `referrers: \
                         false`");
                }
                ReservedContent::List { list, subject } => lists.push(ReferrersList { tag, list, subject }),
                ReservedContent::Previous => {
                    tracing::debug!(source = source.place(), %tag, "skipped: the tag keeps the previous digest of \
                     another tag");
                }
            }
        }
        self.run.report_tag_count(ordinary.len() * self.pair.targets.len()).await;
        self.progress.other_content.lock().extend(not_lists);
        self.sync_each(ordinary.into_iter().map(ManifestRef::Tag)).await;
        stream::iter(lists).for_each_concurrent(TAGS_AT_ONCE, |list| async move { self.sync_list(&list).await }).await;
    }

    /// Syncs a list of referrers:
    /// - If the run has synced the subject, the function does nothing, because the run has copied the list with the
    ///   subject.
    /// - If a target already has the subject, for example as a child of an index, the run copies the listed referrers
    ///   to that target.
    /// - If the selection excludes the subject, the run does not copy the list.
    /// - Otherwise, the run copies the list without its subject, and logs a warning.
    async fn sync_list(&self, list: &ReferrersList) {
        if self.run.is_draining() || self.has_compared(&list.subject) || self.batch.has_read(&list.subject) {
            return;
        }
        let source = self.pair.source.as_ref();
        let subject = ManifestRef::Digest(list.subject);
        let is_at_source = !matches!(source.resolve(&subject).await, Ok(None));
        let selection = &self.run.request.entry.selection;
        let is_named = ReservedForm::ReferrersList.is_named_by(selection, &list.tag);
        // If the entry does not select every tag, a subject without a selected tag counts as excluded.
        let is_wanted = !is_at_source || is_named || selection.takes_every_tag();
        let mut is_logged = false;
        for (target_index, target) in self.pair.targets.iter().enumerate() {
            if is_at_source && matches!(target.resolve(&subject).await, Ok(Some(_))) {
                if let Err(error) = self.refresh_referrers(target_index, &list.tag, list.subject).await {
                    self.record_outcome(
                        target_index,
                        &ManifestRef::Tag(list.tag.clone()),
                        Some(list.list),
                        None,
                        error,
                    )
                    .await;
                }
            } else if is_wanted {
                if !std::mem::replace(&mut is_logged, true) {
                    let why = if is_at_source { "its subject has no tag" } else { "its subject is not at the source" };
                    let ReferrersList { tag, subject, .. } = list;
                    tracing::warn!(source = source.place(), %tag, %subject, why, "a list of referrers is copied \
                         without its subject");
                }
                self.copy_list(target_index, list).await;
            }
        }
    }

    /// Copies a list of referrers. If the target does not have the tag of the list, the run copies the list under this
    /// tag. If the target has a different list or denies the read, the run copies the referrers in the list. The client
    /// of the target then adds each of these referrers to the target's list.
    async fn copy_list(&self, target_index: usize, list: &ReferrersList) {
        let reference = ManifestRef::Tag(list.tag.clone());
        let target = &self.pair.targets[target_index];
        let present = match query_referrers_list(target.as_ref(), &reference).await {
            Ok(present) => present,
            Err(error) => {
                let outcome = TagOutcome::failed_at(Side::Target, &error);
                return self.record_outcome(target_index, &reference, Some(list.list), None, outcome).await;
            }
        };
        if let TargetReferrersList::Has(Some(present)) = present
            && (present == list.list
                || self.derived.find_copied_referrers(target.place(), list.list).await == Some(present))
        {
            return self
                .record_outcome(target_index, &reference, Some(list.list), Some(present), TagOutcome::Unchanged)
                .await;
        }
        let targets = vec![(target_index, None)];
        if matches!(present, TargetReferrersList::Has(None)) {
            let job = CopyJob { reference: reference.clone(), digest: list.list, tag: Some(list.tag.clone()), targets };
            self.copy_job(target_index, &reference, list.list, job).await;
            return;
        }
        let listed = match self.batch.list_children(list.list).await {
            Ok(listed) => listed,
            Err(error) => {
                return self
                    .record_outcome(target_index, &reference, Some(list.list), None, TagOutcome::failed(&error))
                    .await;
            }
        };
        let mut is_complete = true;
        for digest in listed {
            let job = CopyJob { reference: digest.into(), digest, tag: None, targets: targets.clone() };
            is_complete &= self.copy_job(target_index, &digest.into(), digest, job).await;
        }
        // If a referrer was not copied, the run records nothing, so the next run copies the referrers again.
        if is_complete && let Ok(Some(now)) = target.resolve(&reference).await {
            record_referrers_list(self.run, target.place().to_owned(), list.list, now.digest).await;
        }
    }

    /// Runs one copy job and records the outcome. Returns true if the manifest and all its referrers were copied.
    async fn copy_job(&self, target_index: usize, reference: &ManifestRef, digest: Digest, job: CopyJob) -> bool {
        let mut copies = self.copies(job).await;
        let mut is_complete = true;
        while let Some((_, result)) = copies.next().await {
            match result {
                Ok(arrival) => {
                    is_complete &= arrival.left_behind.is_empty();
                    record_evidence_and_outcome(self.run, &arrival, TagOutcome::Copied).await;
                }
                Err(error) => {
                    is_complete = false;
                    self.record_outcome(target_index, reference, Some(digest), None, TagOutcome::failed(&error)).await;
                }
            }
        }
        is_complete
    }
}
