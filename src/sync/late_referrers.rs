//! Signatures and referrers that appeared at the source after their image was copied.

use futures_util::StreamExt as _;
use futures_util::future::{join_all, try_join};

use super::TagOutcome;
use super::referrer_checks::{Look, is_signature};
use super::repository_sync::RepositorySync;
use super::tag_slots::Place;
use crate::copy::Order;
use crate::oci::{Digest, ManifestRef, Tag, referrers_tag, signature_tags};
use crate::store::{ErrorKind, Listed, StoreError, Target};

impl RepositorySync<'_> {
    /// Copies signatures and referrers that appeared at the source, under tags of their own, after their image was
    /// copied.
    pub(crate) async fn late_companions(
        &self,
        reference: &ManifestRef,
        source_digest: Digest,
        wanted: Digest,
        kept: &[usize],
        place: &Place<'_>,
    ) {
        if kept.is_empty() || !self.run.request.entry.referrers || source_digest != wanted {
            return;
        }
        for tag in signature_tags(&source_digest) {
            if self.is_listed(&tag) && !self.selected.contains(&tag) && self.is_first_to_see(&tag) {
                Box::pin(self.one(&ManifestRef::Tag(tag), place)).await;
            }
        }
        let list = referrers_tag(&source_digest);
        if self.is_listed(&list) && self.is_first_to_see(&list) {
            let refreshed = join_all(kept.iter().map(|at| self.refresh_referrers(*at, &list, source_digest))).await;
            for (at, result) in kept.iter().zip(refreshed) {
                if let Err(error) = result {
                    self.settle(*at, reference, Some(source_digest), Some(wanted), error).await;
                }
            }
        }
        if !is_signature(reference) {
            self.late_referrers(reference, source_digest, kept, place).await;
        }
    }

    /// Copies late referrers that only the source's API reports. Queries the source about once a day.
    async fn late_referrers(&self, reference: &ManifestRef, subject: Digest, kept: &[usize], place: &Place<'_>) {
        if !self.checks.take_on(subject) {
            return;
        }
        let look = match self.checks.held(&subject) {
            Some(Some(look)) => look,
            Some(None) => return,
            None => {
                self.bring_unlisted_signatures(subject, place).await;
                match self.look_for_referrers(subject).await {
                    Ok(Some(look)) => look,
                    // The next run looks again.
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
            kept.iter().partition(|at| self.checks.lacks(&subject, place(at), look));
        for at in level.into_iter().filter(|_| self.checks.is_of_now(look)) {
            self.checks.note(subject, place(&at), look).await;
        }
        if !behind.is_empty() {
            self.bring_referrers(reference, subject, &behind, look).await;
        }
    }

    /// Copies signatures that no list of tags shows: an entry that names its tags has no list, and some lists hide tags
    /// (see [`ListedTags`](crate::copy::ListedTags)). They are requested as rarely as referrers.
    async fn bring_unlisted_signatures(&self, subject: Digest, place: &Place<'_>) {
        for tag in signature_tags(&subject) {
            if self.batch.look_up_unlisted(&tag) == Listed::Absent {
                continue;
            }
            match self.pair.source.resolve(&tag.clone().into()).await {
                Ok(Some(_)) => {
                    self.batch.record_found_tag(&tag);
                    if self.is_first_to_see(&tag) {
                        Box::pin(self.one(&ManifestRef::Tag(tag), place)).await;
                    }
                }
                Ok(None) => {}
                Err(error) => self.batch.doubt_referrers(subject, error.to_string()),
            }
        }
    }

    /// Requests the referrers of a digest. Returns `None` if the source cannot report them with certainty.
    async fn look_for_referrers(&self, subject: Digest) -> Result<Option<Look>, TagOutcome> {
        // `late_companions` has handled a fallback tag that is listed.
        let fallback = self.batch.look_up_unlisted(&referrers_tag(&subject));
        let found = self.batch.referrers(&subject, fallback).await.map_err(|error| TagOutcome::failed(&error))?;
        Ok(found.doubt.is_none().then(|| self.checks.look_at(&found)))
    }

    /// Copies a digest again to targets that have it already, to bring its referrers.
    async fn bring_referrers(&self, reference: &ManifestRef, subject: Digest, targets: &[usize], look: Look) {
        let targets = targets.iter().map(|at| (*at, None)).collect();
        let order = Order { reference: reference.clone(), digest: subject, tag: None, targets };
        let mut copies = self.refreshes(order).await;
        while let Some((at, result)) = copies.next().await {
            match result {
                // The next run looks again.
                Ok(arrival) if self.batch.is_in_doubt(&subject) || !arrival.left_behind.is_empty() => {
                    self.run.leave_behind(&arrival);
                }
                Ok(_) => self.checks.note(subject, self.pair.targets[at].place(), look).await,
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

    /// Returns the digest of a list at the source. All targets share one HEAD request, also with the check of tags with
    /// reserved names.
    async fn list_at_source(&self, list: &Tag) -> Result<Option<Digest>, StoreError> {
        if let Some(known) = self.known_list(list) {
            return Ok(Some(known));
        }
        let found = self.pair.source.resolve(&ManifestRef::Tag(list.clone())).await?.map(|found| found.digest);
        if let Some(digest) = found {
            self.lists.lock().insert(list.clone(), digest);
        }
        Ok(found)
    }

    /// Returns the digest of a list at the source if this run has requested it.
    pub(crate) fn known_list(&self, list: &Tag) -> Option<Digest> {
        self.lists.lock().get(list).copied()
    }

    fn is_first_to_see(&self, tag: &Tag) -> bool {
        self.companions.lock().insert(tag.clone())
    }

    /// Copies the referrers of an unchanged digest if its list at the source has changed since they were last copied.
    pub(crate) async fn refresh_referrers(&self, at: usize, list: &Tag, subject: Digest) -> Result<(), TagOutcome> {
        let target = &self.pair.targets[at];
        let reference = ManifestRef::Tag(list.clone());
        // A list that cannot be requested is not a failure of the tag that the list belongs to.
        let doubt = |error: StoreError| self.batch.doubt_referrers(subject, error.to_string());
        let looked = try_join(self.list_at_source(list), list_at_target(target.as_ref(), &reference)).await;
        let (listed, there) = match looked {
            Ok(both) => both,
            Err(error) => {
                doubt(error);
                return Ok(());
            }
        };
        let Some(listed) = listed else { return Ok(()) };
        let is_done = match there {
            AtTarget::Denied => false,
            AtTarget::Has(there) if there == Some(listed) => true,
            AtTarget::Has(there) => {
                self.derived.referrers_done(target.place(), listed).await == Some(there.unwrap_or(listed))
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
            self.run.leave_behind(&arrival);
            is_complete &= arrival.left_behind.is_empty();
        }
        if !is_complete {
            // The next run looks again.
            return Ok(());
        }
        match list_at_target(target.as_ref(), &ManifestRef::Tag(list.clone())).await {
            Ok(AtTarget::Has(now)) => {
                self.derived.note_referrers(target.place(), listed, now.unwrap_or(listed)).await;
            }
            // The list at the target is unknown, so the next run copies the referrers again.
            Ok(AtTarget::Denied) => {}
            Err(error) => doubt(error),
        }
        Ok(())
    }
}

/// Content of a target under the tag of a list of referrers.
pub(crate) enum AtTarget {
    Has(Option<Digest>),
    /// The target denies reading the list. Referrers are written to it all the same.
    Denied,
}

/// Requests a list of referrers from a target.
///
/// # Errors
/// [`StoreError`] for every failure except a denial.
pub(crate) async fn list_at_target(target: &dyn Target, list: &ManifestRef) -> Result<AtTarget, StoreError> {
    match target.resolve(list).await {
        Ok(found) => Ok(AtTarget::Has(found.map(|descriptor| descriptor.digest))),
        Err(error) if error.kind == ErrorKind::Denied => {
            let target = target.place();
            tracing::warn!(target, %list, %error, "the target's list of referrers may not be read: referrers are \
                                                   written whatever it has");
            Ok(AtTarget::Denied)
        }
        Err(error) => Err(error),
    }
}
