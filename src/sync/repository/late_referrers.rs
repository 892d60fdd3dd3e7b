//! Signatures and referrers that appeared at the source after their image was copied.

use futures_util::StreamExt as _;
use futures_util::future::{join_all, try_join};

use super::repository_sync::RepositorySync;
use super::tag_slots::TagSlot;
use crate::copy::Order;
use crate::oci::{Digest, ManifestRef, Tag, referrers_tag, signature_tags};
use crate::store::{Listed, StoreError};
use crate::sync::referrers::checks::{SourceReferrers, is_signature};
use crate::sync::referrers::target_lists::{TargetReferrersList, query_referrers_list};
use crate::sync::report::run_report::TagOutcome;

impl RepositorySync<'_> {
    /// Copies signatures and referrers that appeared at the source, under tags of their own, after their image was
    /// copied.
    pub(super) async fn sync_late_companions(
        &self,
        reference: &ManifestRef,
        source_digest: Digest,
        wanted: Digest,
        kept: &[usize],
        slot: &TagSlot<'_>,
    ) {
        if kept.is_empty() || !self.run.request.entry.referrers || source_digest != wanted {
            return;
        }
        for tag in signature_tags(&source_digest) {
            if self.is_listed(&tag) && !self.selected.contains(&tag) && self.claim_companion(&tag) {
                Box::pin(self.sync_tag(&ManifestRef::Tag(tag), slot)).await;
            }
        }
        let list = referrers_tag(&source_digest);
        if self.is_listed(&list) && self.claim_companion(&list) {
            let refreshed = join_all(kept.iter().map(|at| self.refresh_referrers(*at, &list, source_digest))).await;
            for (at, result) in kept.iter().zip(refreshed) {
                if let Err(error) = result {
                    self.settle(*at, reference, Some(source_digest), Some(wanted), error).await;
                }
            }
        }
        if !is_signature(reference) {
            self.sync_late_referrers(reference, source_digest, kept, slot).await;
        }
    }

    /// Copies late referrers that only the source's API reports. Queries the source about once a day.
    async fn sync_late_referrers(&self, reference: &ManifestRef, subject: Digest, kept: &[usize], slot: &TagSlot<'_>) {
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
                    // The next run queries again.
                    Ok(None) => return,
                    Err(outcome) => {
                        for at in kept {
                            self.settle(*at, reference, Some(subject), Some(subject), outcome.clone()).await;
                        }
                        return;
                    }
                }
            }
        };
        let place = |at: &usize| self.pair.targets[*at].place();
        let (behind, level): (Vec<usize>, Vec<usize>) =
            kept.iter().partition(|at| self.checks.may_lack(&subject, place(at), referrers));
        for at in level.into_iter().filter(|_| self.checks.is_current(referrers)) {
            self.checks.record(subject, place(&at), referrers).await;
        }
        if !behind.is_empty() {
            self.copy_late_referrers(reference, subject, &behind, referrers).await;
        }
    }

    /// Copies signatures that no list of tags shows: an entry that names its tags has no list, and some lists hide tags
    /// (see [`ListedTags`](crate::copy::ListedTags)). These signatures are requested as rarely as referrers.
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

    /// Requests the referrers of a digest. Returns `None` if the source cannot report them with certainty.
    async fn query_referrers(&self, subject: Digest) -> Result<Option<SourceReferrers>, TagOutcome> {
        // `sync_late_companions` has handled a fallback tag that is listed.
        let fallback = self.batch.look_up_unlisted(&referrers_tag(&subject));
        let found = self.batch.referrers(&subject, fallback).await.map_err(|error| TagOutcome::failed(&error))?;
        Ok(found.doubt.is_none().then(|| self.checks.summarize(&found)))
    }

    /// Copies a digest again to targets that have it already, to bring its referrers.
    async fn copy_late_referrers(
        &self,
        reference: &ManifestRef,
        subject: Digest,
        targets: &[usize],
        referrers: SourceReferrers,
    ) {
        let targets = targets.iter().map(|at| (*at, None)).collect();
        let order = Order { reference: reference.clone(), digest: subject, tag: None, targets };
        let mut copies = self.refreshes(order).await;
        while let Some((at, result)) = copies.next().await {
            match result {
                // The next run queries again.
                Ok(arrival) if self.batch.is_in_doubt(&subject) || !arrival.left_behind.is_empty() => {
                    self.run.record_left_behind(&arrival);
                }
                Ok(_) => {
                    let target = self.pair.targets[at].place();
                    self.checks.record_refresh(&self.batch, subject, target, referrers).await;
                }
                Err(error) => {
                    let outcome = TagOutcome::failed(&error);
                    self.settle(at, reference, Some(subject), Some(subject), outcome).await;
                }
            }
        }
    }

    fn is_listed(&self, tag: &Tag) -> bool {
        self.listing.is_complete && self.listing.tags.contains_key(tag)
    }

    /// Returns the digest of a list at the source. All targets, and the check of tags with reserved names, share one
    /// HEAD request.
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

    /// Returns the digest of a list at the source if this run has requested it.
    pub(super) fn known_list(&self, list: &Tag) -> Option<Digest> {
        self.progress.source_lists.lock().get(list).copied()
    }

    fn claim_companion(&self, tag: &Tag) -> bool {
        self.progress.companions.lock().insert(tag.clone())
    }

    /// Copies the referrers of an unchanged digest if its list at the source has changed since they were last copied.
    pub(super) async fn refresh_referrers(&self, at: usize, list: &Tag, subject: Digest) -> Result<(), TagOutcome> {
        let target = &self.pair.targets[at];
        let reference = ManifestRef::Tag(list.clone());
        // A list that cannot be requested is not a failure of the tag that the list belongs to.
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
        let order = Order { reference, digest: subject, tag: None, targets: vec![(at, None)] };
        let mut copies = self.refreshes(order).await;
        let mut is_complete = true;
        while let Some((_, result)) = copies.next().await {
            let arrival = result.map_err(|error| TagOutcome::failed(&error))?;
            self.run.record_left_behind(&arrival);
            is_complete &= arrival.left_behind.is_empty();
        }
        // A referrer that is listed and absent at the source may appear until the next run. The next run decides.
        let is_incomplete = self.batch.incomplete_list(&subject).is_some();
        if is_incomplete && !self.derived.confirm_incomplete_list(target.place(), listed).await {
            is_complete = false;
        }
        if !is_complete {
            // The next run queries again.
            return Ok(());
        }
        match query_referrers_list(target.as_ref(), &ManifestRef::Tag(list.clone())).await {
            Ok(TargetReferrersList::Has(now)) => {
                self.derived.record_referrers(target.place(), listed, now.unwrap_or(listed)).await;
            }
            // The list at the target is unknown, so the next run copies the referrers again.
            Ok(TargetReferrersList::Denied) => {}
            Err(error) => doubt(error),
        }
        Ok(())
    }
}
