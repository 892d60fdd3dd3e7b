//! Schedule of referrer checks. A referrer check queries a source for new referrers of a digest that the targets
//! already have. The schedule decides which digests a run checks, and contains for each digest of a source:
//! - the time of the last check,
//! - for each target, the digest of the list of referrers that a run copied to the target.
//!
//! A run reads the schedule from the journal once, and writes each new check to the journal.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use crate::copy::Batch;
use crate::copy::event::Arrival;
use crate::journal::{Journal, ReferrerCheck};
use crate::oci::{Digest, ManifestRef, SignatureTag};
use crate::store::Referrers;
use crate::sync::context::run::Run;
use crate::sync::context::staged_records::{StagedRecord, StagedRecords};
use crate::sync::journaling::evidence::record_check;

/// Maximum time for which a check is valid. The start times of daily runs differ a little. So the maximum is less than
/// a day, and every daily run repeats all checks.
const MAX_VALIDITY: TimeDelta = TimeDelta::hours(23);

/// Minimum time for which a check is valid. Each digest has its own time between the minimum and the maximum. So if an
/// entry runs often, the checks are spread over several runs.
const MIN_VALIDITY: TimeDelta = TimeDelta::hours(12);

/// Text whose digest marks an unknown list of referrers. If a run could not determine the referrers of a manifest, the
/// schedule contains the digest of this text in place of the digest of the list.
const DOUBT: &[u8] = b"in doubt";

/// Referrer checks of one source. Without a journal, a run makes no referrer checks, because every run would have to
/// check all digests.
pub(crate) struct ReferrerChecks {
    journal: Option<Journal>,
    /// Checks whose target is an archive. The run writes these checks to the journal after the publication of the
    /// archive.
    staged: StagedRecords,
    source: String,
    /// Checks of each digest, the latest check first.
    known: HashMap<Digest, Vec<ReferrerCheck>>,
    now: DateTime<Utc>,
    /// Digests that a task of this run has claimed. Tags with the same digest share one check.
    claimed: Mutex<HashSet<Digest>>,
    /// True once this run has recorded a check.
    has_records: AtomicBool,
}

/// Result of a query for the referrers of a manifest at the source: the digest of the list, and the time of the query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceReferrers {
    pub(crate) list: Digest,
    pub(crate) checked_at: DateTime<Utc>,
}

impl ReferrerChecks {
    /// Reads the recorded checks of a source from the journal. If the entry does not copy referrers, or if the journal
    /// cannot be read, the run makes no checks.
    pub(crate) async fn load(run: &Run<'_>, source: &str) -> Self {
        let mut checks = Self {
            journal: run.engine.journal.clone().filter(|_| run.request.entry.referrers),
            staged: run.staged.clone(),
            source: source.to_owned(),
            known: HashMap::new(),
            now: run.started,
            claimed: Mutex::default(),
            has_records: AtomicBool::new(false),
        };
        let Some(journal) = &checks.journal else { return checks };
        match journal.referrer_checks(source).await {
            Ok(known) => known.into_iter().for_each(|check| checks.known.entry(check.subject).or_default().push(check)),
            Err(error) => {
                tracing::warn!(%error, "cannot query the journal: late referrers are not checked");
                checks.journal = None;
            }
        }
        checks
    }

    /// Claims the check for the referrers of a digest. Returns false if another task of this run has claimed the check,
    /// or if the run checks no referrers.
    pub(crate) fn claim(&self, subject: Digest) -> bool {
        self.journal.is_some() && self.claimed.lock().insert(subject)
    }

    /// If the last check of a digest is still valid, returns the check. If this check was part of a copy of the digest,
    /// the inner value is `None`, because the journal then contains no list.
    pub(crate) fn last_check(&self, subject: &Digest) -> Option<Option<SourceReferrers>> {
        let last = self.known.get(subject)?.first()?;
        let age = self.now - last.checked;
        let is_valid = TimeDelta::zero() <= age && age < check_validity(subject);
        is_valid.then(|| last.list.map(|list| SourceReferrers { list, checked_at: last.checked }))
    }

    pub(crate) fn summarize(&self, referrers: &Referrers) -> SourceReferrers {
        SourceReferrers {
            list: list_digest(referrers.manifests.iter().map(|referrer| referrer.digest)),
            checked_at: self.now,
        }
    }

    /// Returns true if this run made the check. In this case, the caller must record the result.
    pub(crate) fn is_current(&self, referrers: SourceReferrers) -> bool {
        referrers.checked_at == self.now
    }

    /// Compares `referrers` with the last list that a run copied to `target`. Returns true if the two lists differ,
    /// because `target` may then lack referrers. If no run copied a list to `target`, the last list counts as empty.
    pub(crate) fn may_lack(&self, subject: &Digest, target: &str, referrers: SourceReferrers) -> bool {
        let mut known = self.known.get(subject).into_iter().flatten();
        let copied = known.find(|check| check.target == target).and_then(|check| check.list);
        referrers.list != copied.unwrap_or_else(|| list_digest([].into_iter()))
    }

    /// Records that a target has all referrers of this list.
    pub(crate) async fn record(&self, subject: Digest, target: &str, referrers: SourceReferrers) {
        self.write(ReferrerCheck {
            subject,
            target: target.to_owned(),
            checked: referrers.checked_at,
            list: Some(referrers.list),
        })
        .await;
    }

    /// Records that a digest was copied to a target together with its referrers.
    async fn record_copy(&self, subject: Digest, target: &str) {
        self.write(ReferrerCheck { subject, target: target.to_owned(), checked: self.now, list: None }).await;
    }

    /// Records that a run copied a digest to a target, but could not determine the referrers of the digest or of its
    /// children. The next run checks the referrers again, and copies the referrers even if their list has not changed.
    async fn record_doubt(&self, subject: Digest, target: &str) {
        let (target, checked) = (target.to_owned(), self.now - MAX_VALIDITY);
        self.write(ReferrerCheck { subject, target, checked, list: Some(Digest::of(DOUBT)) }).await;
    }

    /// Records, after a copy of a digest, that the copy included the referrers. If the run could not determine or copy
    /// some referrers, the next run checks the referrers again. Does nothing for signatures and for derived digests.
    pub(crate) async fn record_arrival(&self, batch: &Batch, reference: &ManifestRef, arrival: &Arrival) {
        if arrival.digest != arrival.source_digest || is_signature(reference) {
            return;
        }
        // This method does not know the children of an index. So each unknown list of referrers in the batch can belong
        // to a child.
        let is_unsure = match arrival.media_type.is_index() {
            true => !batch.doubted_referrers().is_empty() || batch.has_incomplete_lists(),
            false => batch.is_in_doubt(&arrival.digest) || batch.incomplete_list(&arrival.digest).is_some(),
        };
        if is_unsure || !arrival.left_behind.is_empty() {
            self.record_doubt(arrival.digest, &arrival.target).await;
        } else {
            self.record_copy(arrival.digest, &arrival.target).await;
        }
    }

    /// Records that a run copied the referrers of a digest to a target that already had the digest. If the source lists
    /// a referrer that the source does not have, the next run checks the referrers again. If the next run has the same
    /// result, later runs check the referrers about once a day, like all other referrers.
    pub(crate) async fn record_refresh(
        &self,
        batch: &Batch,
        subject: Digest,
        target: &str,
        referrers: SourceReferrers,
    ) {
        if batch.has_incomplete_lists() && !self.was_in_doubt(&subject, target) {
            return self.record_doubt(subject, target).await;
        }
        let list = batch.incomplete_list(&subject).map_or(referrers.list, |present| list_digest(present.into_iter()));
        self.record(subject, target, SourceReferrers { list, ..referrers }).await;
    }

    /// Returns true if, at the last recorded check for this digest and target, the run could not determine the
    /// referrers.
    fn was_in_doubt(&self, subject: &Digest, target: &str) -> bool {
        let mut known = self.known.get(subject).into_iter().flatten();
        known.find(|check| check.target == target).and_then(|check| check.list) == Some(Digest::of(DOUBT))
    }

    async fn write(&self, check: ReferrerCheck) {
        let Some(journal) = &self.journal else { return };
        self.has_records.store(true, Ordering::Relaxed);
        let record = StagedRecord::ReferrerCheck { source: self.source.clone(), check: Box::new(check) };
        if let Some(StagedRecord::ReferrerCheck { source, check }) = self.staged.stage(record) {
            record_check(journal, &source, *check).await;
        }
    }

    /// If this run has recorded new checks, deletes the checks from the journal that were last recorded more than 30
    /// days ago.
    pub(crate) async fn forget_old(&self) {
        let Some(journal) = self.journal.as_ref().filter(|_| self.has_records.load(Ordering::Relaxed)) else { return };
        if let Err(error) = journal.forget_old_referrer_checks(self.now).await {
            tracing::warn!(%error, "cannot delete old checks of referrers from the journal");
        }
    }
}

/// Returns true for a tag of cosign, such as `sha256-<hex>.sig`. Runs do not check the referrers of signatures.
pub(crate) fn is_signature(reference: &ManifestRef) -> bool {
    matches!(reference, ManifestRef::Tag(tag) if matches!(SignatureTag::read(tag), Some(SignatureTag::Cosign(_))))
}

/// Returns the time for which a check of this digest is valid. The time depends only on the digest.
fn check_validity(subject: &Digest) -> TimeDelta {
    let minutes = (MAX_VALIDITY - MIN_VALIDITY).num_minutes();
    let own = subject.hash().iter().take(4).fold(0, |sum, byte| sum * 256 + i64::from(*byte));
    MIN_VALIDITY + TimeDelta::minutes(own % (minutes + 1))
}

/// Returns one digest for a list of referrers. The order of the list does not matter.
fn list_digest(referrers: impl Iterator<Item = Digest>) -> Digest {
    let mut lines: Vec<String> = referrers.map(|digest| format!("{digest}\n")).collect();
    lines.sort();
    lines.dedup();
    Digest::of(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_stay_valid_for_half_a_day_to_a_day() {
        let validities: HashSet<TimeDelta> =
            (0..500u32).map(|number| check_validity(&Digest::of(&number.to_be_bytes()))).collect();
        assert!(validities.len() > 250, "{}", validities.len());
        assert!(validities.iter().all(|validity| (MIN_VALIDITY..=MAX_VALIDITY).contains(validity)));
    }
}
