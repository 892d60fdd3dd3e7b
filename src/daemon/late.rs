//! Signatures and referrers that appeared at the source after their image was copied.

use std::sync::PoisonError;

use futures_util::future::{join_all, try_join};

use super::TagOutcome;
use super::tag::{PairRun, Place};
use crate::copy::Order;
use crate::oci::{Digest, ManifestRef, Tag, referrers_tag, signature_tags};
use crate::store::Side;

impl PairRun<'_> {
    /// Signatures and referrers that appeared at the source, under tags of their own, after their image was copied.
    pub(super) async fn late_companions(
        &self,
        reference: &ManifestRef,
        source_digest: Digest,
        wanted: Digest,
        kept: &[usize],
        place: &Place<'_>,
    ) {
        if kept.is_empty() || !self.run.errand.entry.referrers || source_digest != wanted {
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
    }

    fn is_listed(&self, tag: &Tag) -> bool {
        self.listing.is_complete && self.listing.tags.contains_key(tag)
    }

    fn is_first_to_see(&self, tag: &Tag) -> bool {
        self.companions.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.clone())
    }

    /// Copies what refers to an unchanged digest if its list at the source is another one than when that was last done.
    async fn refresh_referrers(&self, at: usize, list: &Tag, subject: Digest) -> Result<(), TagOutcome> {
        let target = &self.pair.targets[at];
        let reference = ManifestRef::Tag(list.clone());
        let source = async {
            self.pair.source.resolve(&reference).await.map_err(|error| TagOutcome::failed_at(Side::Source, &error))
        };
        let there =
            async { target.resolve(&reference).await.map_err(|error| TagOutcome::failed_at(Side::Target, &error)) };
        let (listed, there) = try_join(source, there).await?;
        let Some(listed) = listed.map(|descriptor| descriptor.digest) else { return Ok(()) };
        let there = there.map(|descriptor| descriptor.digest);
        if there == Some(listed)
            || self.derived.referrers_done(target.place(), listed).await == Some(there.unwrap_or(listed))
        {
            return Ok(());
        }
        let order = Order { reference, digest: subject, tag: None, targets: vec![(at, None)] };
        for (_, result) in self.batch.copy(order).await {
            result.map_err(|error| TagOutcome::failed(&error))?;
        }
        let now = target.resolve(&ManifestRef::Tag(list.clone())).await;
        let now = now.map_err(|error| TagOutcome::failed_at(Side::Target, &error))?.map(|descriptor| descriptor.digest);
        self.derived.note_referrers(target.place(), listed, now.unwrap_or(listed)).await;
        Ok(())
    }
}
