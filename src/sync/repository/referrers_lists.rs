//! Lists of referrers under tags of their own, and other content under tags that have the form of such a list.

use futures_util::StreamExt as _;
use futures_util::stream;

use super::repository_sync::RepositorySync;
use crate::copy::Order;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::ReservedForm;
use crate::store::Side;
use crate::sync::comparison::tag_comparison::query_source_digest;
use crate::sync::journaling::evidence::settle_arrival;
use crate::sync::referrers::reserved_tags::{ReservedContent, identify_content};
use crate::sync::referrers::target_lists::{TargetReferrersList, query_referrers_list};
use crate::sync::report::run_report::TagOutcome;

/// Maximum number of tags that are identified at once.
const AT_ONCE: usize = 32;

/// List of referrers and its subject.
struct ReferrersList {
    tag: Tag,
    list: Digest,
    subject: Digest,
}

impl RepositorySync<'_> {
    /// Processes the tags with a reserved form after all others: only then it is known which subjects are copied.
    pub(super) async fn settle_reserved(&self, reserved: Vec<(Tag, ReservedForm)>) {
        let source = self.pair.source.as_ref();
        let found: Vec<(Tag, ReservedForm, ReservedContent)> = stream::iter(reserved)
            .map(|(tag, form)| async move {
                let digest = match self.known_list(&tag) {
                    Some(known) => Ok(known),
                    None => query_source_digest(source, &self.listing, &ManifestRef::Tag(tag.clone())).await,
                };
                let content = match digest {
                    Ok(digest) => identify_content(&self.batch, &self.derived, &tag, &form, digest).await,
                    // The copy of the tag reports the failure.
                    Err(_) => ReservedContent::Ordinary,
                };
                (tag, form, content)
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let entry = &self.run.request.entry;
        let (mut ordinary, mut lists, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (tag, form, content) in found {
            let is_named = form.is_named_by(&entry.selection, &tag);
            match content {
                ReservedContent::Ordinary => {
                    others.push(tag.clone());
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
        self.progress.other_content.lock().extend(others);
        self.sync_each(ordinary.into_iter().map(ManifestRef::Tag)).await;
        stream::iter(lists).for_each_concurrent(AT_ONCE, |list| async move { self.settle_list(&list).await }).await;
    }

    /// Processes a list of referrers.
    /// - If its subject is selected, the list was copied with the subject.
    /// - If the subject was copied in another way (as a child of an index), the referrers in the list are copied to the
    ///   subject.
    /// - If the source lacks the subject or has no tag for the subject, the list is logged and copied unchanged.
    async fn settle_list(&self, list: &ReferrersList) {
        if self.run.is_draining() || self.has_compared(&list.subject) || self.batch.has_read(&list.subject) {
            return;
        }
        let source = self.pair.source.as_ref();
        let subject = ManifestRef::Digest(list.subject);
        let is_at_source = !matches!(source.resolve(&subject).await, Ok(None));
        let selection = &self.run.request.entry.selection;
        let is_named = ReservedForm::ReferrersList.is_named_by(selection, &list.tag);
        // With a narrower selection the subject is one of the unwanted ones.
        let is_wanted = !is_at_source || is_named || selection.takes_every_tag();
        let mut is_logged = false;
        for (at, target) in self.pair.targets.iter().enumerate() {
            if is_at_source && matches!(target.resolve(&subject).await, Ok(Some(_))) {
                if let Err(error) = self.refresh_referrers(at, &list.tag, list.subject).await {
                    self.settle(at, &ManifestRef::Tag(list.tag.clone()), Some(list.list), None, error).await;
                }
            } else if is_wanted {
                if !std::mem::replace(&mut is_logged, true) {
                    let why = if is_at_source { "its subject has no tag" } else { "its subject is not at the source" };
                    let ReferrersList { tag, subject, .. } = list;
                    tracing::warn!(source = source.place(), %tag, %subject, why, "a list of referrers is copied \
                         without its subject");
                }
                self.copy_list(at, list).await;
            }
        }
    }

    /// Copies a list under its tag if the target has none. If the target has a list or denies the read, copies the
    /// referrers in the list; the target's client adds them to the target's own list.
    async fn copy_list(&self, at: usize, list: &ReferrersList) {
        let reference = ManifestRef::Tag(list.tag.clone());
        let target = &self.pair.targets[at];
        let present = match query_referrers_list(target.as_ref(), &reference).await {
            Ok(present) => present,
            Err(error) => {
                let outcome = TagOutcome::failed_at(Side::Target, &error);
                return self.settle(at, &reference, Some(list.list), None, outcome).await;
            }
        };
        if let TargetReferrersList::Has(Some(present)) = present
            && (present == list.list
                || self.derived.find_copied_referrers(target.place(), list.list).await == Some(present))
        {
            return self.settle(at, &reference, Some(list.list), Some(present), TagOutcome::Unchanged).await;
        }
        let targets = vec![(at, None)];
        if matches!(present, TargetReferrersList::Has(None)) {
            let order = Order { reference: reference.clone(), digest: list.list, tag: Some(list.tag.clone()), targets };
            self.copy_order(at, &reference, list.list, order).await;
            return;
        }
        let listed = match self.batch.list_children(list.list).await {
            Ok(listed) => listed,
            Err(error) => {
                return self.settle(at, &reference, Some(list.list), None, TagOutcome::failed(&error)).await;
            }
        };
        let mut is_complete = true;
        for digest in listed {
            let order = Order { reference: digest.into(), digest, tag: None, targets: targets.clone() };
            is_complete &= self.copy_order(at, &digest.into(), digest, order).await;
        }
        // If a referrer is missing, the next run tries again.
        if is_complete && let Ok(Some(now)) = target.resolve(&reference).await {
            self.derived.record_referrers(target.place(), list.list, now.digest).await;
        }
    }

    /// Copies and records one order, and returns true if all of it arrived.
    async fn copy_order(&self, at: usize, reference: &ManifestRef, digest: Digest, order: Order) -> bool {
        let mut copies = self.copies(order).await;
        let mut is_complete = true;
        while let Some((_, result)) = copies.next().await {
            match result {
                Ok(arrival) => {
                    is_complete &= arrival.left_behind.is_empty();
                    settle_arrival(self.run, &arrival, TagOutcome::Copied).await;
                }
                Err(error) => {
                    is_complete = false;
                    self.settle(at, reference, Some(digest), None, TagOutcome::failed(&error)).await;
                }
            }
        }
        is_complete
    }
}
