//! When it was last looked for what refers to the digests of a source, and what each target got of it: which of them are to
//! be looked for in this run. Asks the journal, once, and tells it; asks no registry.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::run::Run;
use crate::copy::Batch;
use crate::copy::event::Arrival;
use crate::journal::{Journal, ReferrerCheck};
use crate::oci::{Digest, ManifestRef, SignatureTag};
use crate::store::Referrers;

/// How long a look at the source holds at most. Less than a day by what the beginnings of daily runs differ in, so that such
/// an entry looks each day.
const HOLDS: TimeDelta = TimeDelta::hours(23);

/// And at least. In between it is each digest's own time, so that an entry that runs often does not look for all of them in
/// one run.
const HOLDS_AT_LEAST: TimeDelta = TimeDelta::hours(12);

/// What stands for a list that is in doubt: no list has the digest of this.
const DOUBT: &[u8] = b"in doubt";

/// What the journal knows of a source. Without a journal nothing is looked for: it would be at every run.
pub(crate) struct Checks {
    journal: Option<Journal>,
    source: String,
    /// The latest first.
    known: HashMap<Digest, Vec<ReferrerCheck>>,
    now: DateTime<Utc>,
    /// The digests that were looked for in this run: tags of one digest have the same referrers.
    looked: Mutex<HashSet<Digest>>,
    noted: AtomicBool,
}

/// The list of what refers to a digest, by one digest, and when the source was asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) list: Digest,
    pub(crate) at: DateTime<Utc>,
}

impl Checks {
    /// Asks the journal, if the entry's referrers are of interest.
    pub(crate) async fn recall(run: &Run<'_>, source: &str) -> Self {
        let mut checks = Self {
            journal: run.engine.journal.clone().filter(|_| run.request.entry.referrers),
            source: source.to_owned(),
            known: HashMap::new(),
            now: run.started,
            looked: Mutex::default(),
            noted: AtomicBool::new(false),
        };
        let Some(journal) = &checks.journal else { return checks };
        match journal.referrer_checks(source).await {
            Ok(known) => known.into_iter().for_each(|one| checks.known.entry(one.subject).or_default().push(one)),
            Err(error) => {
                tracing::warn!(%error, "the journal could not be asked; late referrers are not looked for");
                checks.journal = None;
            }
        }
        checks
    }

    /// Whether nobody has taken it on in this run to look for this digest's referrers; takes it on.
    pub(crate) fn take_on(&self, subject: Digest) -> bool {
        self.journal.is_some() && self.looked.lock().unwrap_or_else(PoisonError::into_inner).insert(subject)
    }

    /// The last look at the source if it still holds. Its list is `None` where a copy looked.
    pub(crate) fn held(&self, subject: &Digest) -> Option<Option<Look>> {
        let last = self.known.get(subject)?.first()?;
        let age = self.now - last.checked;
        let holds = TimeDelta::zero() <= age && age < holds(subject);
        holds.then(|| last.list.map(|list| Look { list, at: last.checked }))
    }

    /// A look at the source, now.
    pub(crate) fn look_at(&self, referrers: &Referrers) -> Look {
        Look { list: digest_of(referrers.manifests.iter().map(|referrer| referrer.digest)), at: self.now }
    }

    /// Whether a look is one of this run: what it found is not noted yet.
    pub(crate) fn is_of_now(&self, look: Look) -> bool {
        look.at == self.now
    }

    /// Whether a target may lack something of a list. Where nothing is known of the target it lacks whatever there is.
    pub(crate) fn lacks(&self, subject: &Digest, target: &str, look: Look) -> bool {
        let mut known = self.known.get(subject).into_iter().flatten();
        let had = known.find(|one| one.target == target).and_then(|one| one.list);
        look.list != had.unwrap_or_else(|| digest_of([].into_iter()))
    }

    /// Notes that this list has come to a target.
    pub(crate) async fn note(&self, subject: Digest, target: &str, look: Look) {
        self.write(ReferrerCheck { subject, target: target.to_owned(), checked: look.at, list: Some(look.list) }).await;
    }

    /// Notes that a digest was copied to a target, with what referred to it then.
    async fn note_copy(&self, subject: Digest, target: &str) {
        self.write(ReferrerCheck { subject, target: target.to_owned(), checked: self.now, list: None }).await;
    }

    /// Notes that a digest was copied to a target while nobody could tell what refers to it, or to what it lists: the next run looks
    /// again, and copies it again, whatever it finds.
    async fn note_doubt(&self, subject: Digest, target: &str) {
        let (target, checked) = (target.to_owned(), self.now - HOLDS);
        self.write(ReferrerCheck { subject, target, checked, list: Some(Digest::of(DOUBT)) }).await;
    }

    /// Notes what a copy found of what refers to the digest that it brought. Where some of that is in doubt or was left behind, the next
    /// run looks again.
    pub(crate) async fn note_arrival(&self, batch: &Batch, reference: &ManifestRef, arrival: &Arrival) {
        if arrival.digest != arrival.source_digest || is_signature(reference) {
            return;
        }
        // Which children an index has is not at hand here: any doubt may be about one of them.
        let is_unsure = match arrival.media_type.is_index() {
            true => !batch.doubted_referrers().is_empty(),
            false => batch.is_in_doubt(&arrival.digest),
        };
        if is_unsure || !arrival.left_behind.is_empty() {
            self.note_doubt(arrival.digest, &arrival.target).await;
        } else {
            self.note_copy(arrival.digest, &arrival.target).await;
        }
    }

    async fn write(&self, check: ReferrerCheck) {
        let Some(journal) = &self.journal else { return };
        self.noted.store(true, Ordering::Relaxed);
        if let Err(error) = journal.record_referrer_check(&self.source, check).await {
            tracing::warn!(%error, "the journal could not note that referrers were looked for; the next run looks anew");
        }
    }

    /// Lets the journal forget what is too old, where there was something new.
    pub(crate) async fn forget_old(&self) {
        let Some(journal) = self.journal.as_ref().filter(|_| self.noted.load(Ordering::Relaxed)) else { return };
        if let Err(error) = journal.forget_old_referrer_checks(self.now).await {
            tracing::warn!(%error, "the journal could not forget old looks for referrers");
        }
    }
}

/// True for the tag of a signature. Nothing looks for referrers of signatures.
pub(crate) fn is_signature(reference: &ManifestRef) -> bool {
    matches!(reference, ManifestRef::Tag(tag) if matches!(SignatureTag::read(tag), Some(SignatureTag::Cosign(_))))
}

/// How long a look holds for one digest: always as long.
fn holds(subject: &Digest) -> TimeDelta {
    let minutes = (HOLDS - HOLDS_AT_LEAST).num_minutes();
    let own = subject.hash().iter().take(4).fold(0, |sum, byte| sum * 256 + i64::from(*byte));
    HOLDS_AT_LEAST + TimeDelta::minutes(own % (minutes + 1))
}

/// One digest for a list, whatever its order.
fn digest_of(referrers: impl Iterator<Item = Digest>) -> Digest {
    let mut lines: Vec<String> = referrers.map(|digest| format!("{digest}\n")).collect();
    lines.sort();
    lines.dedup();
    Digest::of(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_hold_for_half_a_day_to_a_day_and_differ_by_digest() {
        let held: HashSet<TimeDelta> = (0..500u32).map(|at| holds(&Digest::of(&at.to_be_bytes()))).collect();
        assert!(held.len() > 250, "{}", held.len());
        assert!(held.iter().all(|held| (HOLDS_AT_LEAST..=HOLDS).contains(held)));
    }
}
