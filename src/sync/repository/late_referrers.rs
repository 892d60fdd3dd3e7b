//! Late companions of an image: signatures and referrers that appeared at the source after the image was copied.

use futures_util::StreamExt as _;
use futures_util::future::{join_all, try_join};

use super::repository_sync::RepositorySync;
use super::tag_slots::TagSlot;
use crate::copy::CopyJob;
use crate::oci::{Digest, ManifestRef, Tag, referrers_tag, signature_tags};
use crate::store::{Listed, StoreError};
use crate::sync::journaling::evidence::record_referrers_list;
use crate::sync::referrers::checks::{SourceReferrers, is_signature};
use crate::sync::referrers::target_lists::{TargetReferrersList, query_referrers_list};
use crate::sync::report::run_report::TagOutcome;

impl RepositorySync<'_> {
    /// Copies the late signatures and referrers of a digest to the targets that already have the digest. `unchanged`
    /// contains the indexes of these targets. Does nothing if the entry does not copy referrers, or if the targets have
    /// a derived digest.
    pub(super) async fn sync_late_companions(
        &self,
        reference: &ManifestRef,
        source_digest: Digest,
        wanted: Digest,
        unchanged: &[usize],
        slot: &TagSlot<'_>,
    ) {
        if unchanged.is_empty() || !self.run.request.entry.referrers || source_digest != wanted {
            return;
        }
        for tag in signature_tags(&source_digest) {
            if self.is_listed(&tag) && !self.selected.contains(&tag) && self.claim_companion(&tag) {
                Box::pin(self.sync_tag(&ManifestRef::Tag(tag), slot)).await;
            }
        }
        let list = referrers_tag(&source_digest);
        if self.is_listed(&list) && self.claim_companion(&list) {
            let refreshed = join_all(
                unchanged.iter().map(|target_index| self.refresh_referrers(*target_index, &list, source_digest)),
            )
            .await;
            for (target_index, result) in unchanged.iter().zip(refreshed) {
                if let Err(error) = result {
                    self.record_outcome(*target_index, reference, Some(source_digest), Some(wanted), error).await;
                }
            }
        }
        if !is_signature(reference) {
            self.sync_late_referrers(reference, source_digest, unchanged, slot).await;
        }
    }

    /// Copies late referrers from the referrers API of the source, and late signatures that the list of tags does not
    /// contain. Queries the source about once a day for each digest.
    async fn sync_late_referrers(
        &self,
        reference: &ManifestRef,
        subject: Digest,
        unchanged: &[usize],
        slot: &TagSlot<'_>,
    ) {
        if !self.checks.claim(subject) {
            return;
        }
        let referrers = match self.checks.last_check(&subject) {
            Some(Some(referrers)) => referrers,
            Some(None) => return,
            None => {
                self.sync_unlisted_signatures(subject, slot).await;
                match self.query_referrers(subject).await {
                    Ok(Some(referrers)) => referrers,
                    // The next run queries the source again.
                    Ok(None) => return,
                    Err(outcome) => {
                        for target_index in unchanged {
                            self.record_outcome(
                                *target_index,
                                reference,
                                Some(subject),
                                Some(subject),
                                outcome.clone(),
                            )
                            .await;
                        }
                        return;
                    }
                }
            }
        };
        let target_name = |target_index: &usize| self.pair.targets[*target_index].place();
        let (outdated, current): (Vec<usize>, Vec<usize>) = unchanged
            .iter()
            .partition(|target_index| self.checks.may_lack(&subject, target_name(target_index), referrers));
        for target_index in current.into_iter().filter(|_| self.checks.is_current(referrers)) {
            self.checks.record(subject, target_name(&target_index), referrers).await;
        }
        if !outdated.is_empty() {
            self.copy_late_referrers(reference, subject, &outdated, referrers).await;
        }
    }

    /// Copies signatures whose tags are not in the run's list of the source's tags. There are two reasons for an absent
    /// tag:
    /// - If the entry names its tags one by one, the run does not list the source.
    /// - Some registries omit tags from the list (see [`ListedTags`](crate::copy::ListedTags)).
    async fn sync_unlisted_signatures(&self, subject: Digest, slot: &TagSlot<'_>) {
        for tag in signature_tags(&subject) {
            if self.batch.look_up_unlisted(&tag) == Listed::Absent {
                continue;
            }
            match self.pair.source.resolve(&tag.clone().into()).await {
                Ok(Some(_)) => {
                    self.batch.record_found_tag(&tag);
                    if self.claim_companion(&tag) {
                        Box::pin(self.sync_tag(&ManifestRef::Tag(tag), slot)).await;
                    }
                }
                Ok(None) => {}
                Err(error) => self.batch.doubt_referrers(subject, error.to_string()),
            }
        }
    }

    /// Requests the referrers of a digest from the source. Returns `None` if the run could not determine the referrers.
    async fn query_referrers(&self, subject: Digest) -> Result<Option<SourceReferrers>, TagOutcome> {
        // If the list of tags contains the fallback tag (`sha256-<hex>`), `sync_late_companions` has already handled
        // this tag.
        let fallback = self.batch.look_up_unlisted(&referrers_tag(&subject));
        let found = self.batch.referrers(&subject, fallback).await.map_err(|error| TagOutcome::failed(&error))?;
        Ok(found.doubt.is_none().then(|| self.checks.summarize(&found)))
    }

    /// Copies the referrers of a digest to targets that already have the digest.
    async fn copy_late_referrers(
        &self,
        reference: &ManifestRef,
        subject: Digest,
        targets: &[usize],
        referrers: SourceReferrers,
    ) {
        let targets = targets.iter().map(|target_index| (*target_index, None)).collect();
        let job = CopyJob { reference: reference.clone(), digest: subject, tag: None, targets };
        let mut copies = self.refreshes(job).await;
        while let Some((target_index, result)) = copies.next().await {
            match result {
                // The next run queries the source again.
                Ok(arrival) if self.batch.is_in_doubt(&subject) || !arrival.left_behind.is_empty() => {
                    self.run.record_left_behind(&arrival);
                }
                Ok(_) => {
                    let target = self.pair.targets[target_index].place();
                    self.checks.record_refresh(&self.batch, subject, target, referrers).await;
                }
                Err(error) => {
                    let outcome = TagOutcome::failed(&error);
                    self.record_outcome(target_index, reference, Some(subject), Some(subject), outcome).await;
                }
            }
        }
    }

    /// Returns true if the run has listed the source and the list contains `tag`.
    fn is_listed(&self, tag: &Tag) -> bool {
        self.listing.is_complete && self.listing.tags.contains_key(tag)
    }

    /// Returns the digest of a list of referrers at the source. `list` is the tag of the list (`sha256-<hex>`). If this
    /// run does not know the digest yet, sends a HEAD request.
    async fn query_source_list(&self, list: &Tag) -> Result<Option<Digest>, StoreError> {
        if let Some(known) = self.known_list(list) {
            return Ok(Some(known));
        }
        let found = self.pair.source.resolve(&ManifestRef::Tag(list.clone())).await?.map(|found| found.digest);
        if let Some(digest) = found {
            self.progress.source_lists.lock().insert(list.clone(), digest);
        }
        Ok(found)
    }

    /// If this run has requested the digest of a list of referrers at the source, returns the digest.
    pub(super) fn known_list(&self, list: &Tag) -> Option<Digest> {
        self.progress.source_lists.lock().get(list).copied()
    }

    /// Claims the tag of a signature or of a list of referrers. Returns false if another task of this run has claimed
    /// the tag.
    fn claim_companion(&self, tag: &Tag) -> bool {
        self.progress.companions.lock().insert(tag.clone())
    }

    /// If the source's list of referrers of `subject` has changed since the last copy, copies the referrers to one
    /// target. The target already has the subject.
    pub(super) async fn refresh_referrers(
        &self,
        target_index: usize,
        list: &Tag,
        subject: Digest,
    ) -> Result<(), TagOutcome> {
        let target = &self.pair.targets[target_index];
        let reference = ManifestRef::Tag(list.clone());
        // If the request for a list fails, the run reports that the referrers of the subject are unknown. The outcome
        // of the subject's tag does not change.
        let doubt = |error: StoreError| self.batch.doubt_referrers(subject, error.to_string());
        let lists = try_join(self.query_source_list(list), query_referrers_list(target.as_ref(), &reference)).await;
        let (listed, present) = match lists {
            Ok(both) => both,
            Err(error) => {
                doubt(error);
                return Ok(());
            }
        };
        let Some(listed) = listed else { return Ok(()) };
        let is_done = match present {
            TargetReferrersList::Denied => false,
            TargetReferrersList::Has(present) if present == Some(listed) => true,
            TargetReferrersList::Has(present) => {
                self.derived.find_copied_referrers(target.place(), listed).await == Some(present.unwrap_or(listed))
            }
        };
        if is_done {
            return Ok(());
        }
        let job = CopyJob { reference, digest: subject, tag: None, targets: vec![(target_index, None)] };
        let mut copies = self.refreshes(job).await;
        let mut is_complete = true;
        while let Some((_, result)) = copies.next().await {
            let arrival = result.map_err(|error| TagOutcome::failed(&error))?;
            self.run.record_left_behind(&arrival);
            is_complete &= arrival.left_behind.is_empty();
        }
        // If a listed referrer is absent at the source, the referrer may appear before the next run. So the next run
        // checks the list again.
        let is_incomplete = self.batch.incomplete_list(&subject).is_some();
        if is_incomplete && !self.derived.confirm_incomplete_list(target.place(), listed).await {
            is_complete = false;
        }
        if !is_complete {
            // The next run queries the source again.
            return Ok(());
        }
        match query_referrers_list(target.as_ref(), &ManifestRef::Tag(list.clone())).await {
            Ok(TargetReferrersList::Has(now)) => {
                let (target, written) = (target.place().to_owned(), now.unwrap_or(listed));
                record_referrers_list(self.run, target, listed, written).await;
            }
            // The list at the target is unknown, so the next run copies the referrers again.
            Ok(TargetReferrersList::Denied) => {}
            Err(error) => doubt(error),
        }
        Ok(())
    }
}
