//! Schedule of referrer checks. For each digest of a source, the schedule holds the time of the last check for
//! referrers, and the list that was copied to each target. From these it decides which digests a run checks. The
//! journal is read once, and each new check is written to it. No request is sent to a registry.

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

/// Longest validity of a check at the source. The difference to a whole day is the amount by which the start times of
/// daily runs differ, so that a daily entry checks on each day.
const LONGEST_VALIDITY: TimeDelta = TimeDelta::hours(23);

/// Shortest validity. Each digest has its own validity between the two bounds, so that an entry that runs often does
/// not check all digests in one run.
const SHORTEST_VALIDITY: TimeDelta = TimeDelta::hours(12);

/// Placeholder for a list that could not be read with certainty: no list has the digest of this text.
const DOUBT: &[u8] = b"in doubt";

/// Checks of a source that the journal has. Without a journal no referrers are checked, because every run would have to
/// check all of them.
pub(crate) struct ReferrerChecks {
    journal: Option<Journal>,
    source: String,
    /// Checks by digest, the latest first.
    known: HashMap<Digest, Vec<ReferrerCheck>>,
    now: DateTime<Utc>,
    /// Digests that this run has checked: tags of one digest have the same referrers.
    claimed: Mutex<HashSet<Digest>>,
    /// True once this run has recorded a check.
    has_records: AtomicBool,
}

/// List of the referrers of a digest, reduced to one digest, and the time at which the source was queried for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceReferrers {
    pub(crate) list: Digest,
    pub(crate) at: DateTime<Utc>,
}

impl ReferrerChecks {
    /// Reads the checks from the journal, if the entry copies referrers.
    pub(crate) async fn load(run: &Run<'_>, source: &str) -> Self {
        let mut checks = Self {
            journal: run.engine.journal.clone().filter(|_| run.request.entry.referrers),
            source: source.to_owned(),
            known: HashMap::new(),
            now: run.started,
            claimed: Mutex::default(),
            has_records: AtomicBool::new(false),
        };
        let Some(journal) = &checks.journal else { return checks };
        match journal.referrer_checks(source).await {
            Ok(known) => known.into_iter().for_each(|one| checks.known.entry(one.subject).or_default().push(one)),
            Err(error) => {
                tracing::warn!(%error, "cannot query the journal: late referrers are not checked");
                checks.journal = None;
            }
        }
        checks
    }

    /// Returns true if no other task of this run has claimed the check for this digest's referrers, and claims it.
    pub(crate) fn claim(&self, subject: Digest) -> bool {
        self.journal.is_some() && self.claimed.lock().insert(subject)
    }

    /// Returns the last check at the source if it is still valid. Its list is `None` if a copy did the check.
    pub(crate) fn last_check(&self, subject: &Digest) -> Option<Option<SourceReferrers>> {
        let last = self.known.get(subject)?.first()?;
        let age = self.now - last.checked;
        let is_valid = TimeDelta::zero() <= age && age < check_validity(subject);
        is_valid.then(|| last.list.map(|list| SourceReferrers { list, at: last.checked }))
    }

    /// Creates a check at the source with the current time.
    pub(crate) fn summarize(&self, referrers: &Referrers) -> SourceReferrers {
        SourceReferrers { list: list_digest(referrers.manifests.iter().map(|referrer| referrer.digest)), at: self.now }
    }

    /// Returns true if the check was made in this run: its result is not recorded yet.
    pub(crate) fn is_current(&self, referrers: SourceReferrers) -> bool {
        referrers.at == self.now
    }

    /// Returns true if a target may lack a part of a list. If nothing is known of a target, it may lack every referrer.
    pub(crate) fn may_lack(&self, subject: &Digest, target: &str, referrers: SourceReferrers) -> bool {
        let mut known = self.known.get(subject).into_iter().flatten();
        let had = known.find(|one| one.target == target).and_then(|one| one.list);
        referrers.list != had.unwrap_or_else(|| list_digest([].into_iter()))
    }

    /// Records that this list has arrived at a target.
    pub(crate) async fn record(&self, subject: Digest, target: &str, referrers: SourceReferrers) {
        self.write(ReferrerCheck {
            subject,
            target: target.to_owned(),
            checked: referrers.at,
            list: Some(referrers.list),
        })
        .await;
    }

    /// Records that a digest was copied to a target together with the referrers that it had then.
    async fn record_copy(&self, subject: Digest, target: &str) {
        self.write(ReferrerCheck { subject, target: target.to_owned(), checked: self.now, list: None }).await;
    }

    /// Records that a digest was copied to a target while its referrers, or those of its children, could not be
    /// determined. The next run checks and copies the digest again, whatever list it finds.
    async fn record_doubt(&self, subject: Digest, target: &str) {
        let (target, checked) = (target.to_owned(), self.now - LONGEST_VALIDITY);
        self.write(ReferrerCheck { subject, target, checked, list: Some(Digest::of(DOUBT)) }).await;
    }

    /// Records what a copy found about the referrers of the copied digest. If some of the referrers could not be
    /// determined or were not copied, the next run checks again.
    pub(crate) async fn record_arrival(&self, batch: &Batch, reference: &ManifestRef, arrival: &Arrival) {
        if arrival.digest != arrival.source_digest || is_signature(reference) {
            return;
        }
        // The children of an index are not known here: any unknown list of referrers may concern one of them.
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

    /// Records that the referrers of a digest were copied again to a target. If the source did not have a listed
    /// referrer, the next run checks again. If the source does not have the referrer in that run either, the referrer
    /// is checked again about once a day, like every list.
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

    /// Returns true if an earlier run could not determine the referrers of a digest at a target.
    fn was_in_doubt(&self, subject: &Digest, target: &str) -> bool {
        let mut known = self.known.get(subject).into_iter().flatten();
        known.find(|check| check.target == target).and_then(|check| check.list) == Some(Digest::of(DOUBT))
    }

    async fn write(&self, check: ReferrerCheck) {
        let Some(journal) = &self.journal else { return };
        self.has_records.store(true, Ordering::Relaxed);
        if let Err(error) = journal.record_referrer_check(&self.source, check).await {
            tracing::warn!(%error, "cannot record the check of referrers: the next run checks again");
        }
    }

    /// Removes old checks from the journal, if this run has recorded new ones.
    pub(crate) async fn forget_old(&self) {
        let Some(journal) = self.journal.as_ref().filter(|_| self.has_records.load(Ordering::Relaxed)) else { return };
        if let Err(error) = journal.forget_old_referrer_checks(self.now).await {
            tracing::warn!(%error, "cannot delete old checks of referrers from the journal");
        }
    }
}

/// Returns true for the tag of a signature. Nothing checks for referrers of signatures.
pub(crate) fn is_signature(reference: &ManifestRef) -> bool {
    matches!(reference, ManifestRef::Tag(tag) if matches!(SignatureTag::read(tag), Some(SignatureTag::Cosign(_))))
}

/// Returns the validity of a check for one digest. The validity of a digest is always the same.
fn check_validity(subject: &Digest) -> TimeDelta {
    let minutes = (LONGEST_VALIDITY - SHORTEST_VALIDITY).num_minutes();
    let own = subject.hash().iter().take(4).fold(0, |sum, byte| sum * 256 + i64::from(*byte));
    SHORTEST_VALIDITY + TimeDelta::minutes(own % (minutes + 1))
}

/// Returns one digest for a list, independent of its order.
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
            (0..500u32).map(|at| check_validity(&Digest::of(&at.to_be_bytes()))).collect();
        assert!(validities.len() > 250, "{}", validities.len());
        assert!(validities.iter().all(|validity| (SHORTEST_VALIDITY..=LONGEST_VALIDITY).contains(validity)));
    }
}
