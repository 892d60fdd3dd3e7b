//! One pair of repositories during a run: choose its tags, compare each at both sides, copy those that differ. All tags
//! go their ways at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::future::{join, join_all, try_join, try_join3};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::compare::{Contested, compare, overwrite, source_digest, target_digest};
use super::derived::Derived;
use super::journaling::arrived;
use super::listing::{Listing, list, names};
use super::pairs::{OpenPair, Pair};
use super::rivals::rival_claims;
use super::run::Run;
use super::there::{Known, There, look};
use super::{TagOutcome, TagReport};
use crate::copy::event::{BlobCounts, Event};
use crate::copy::{Batch, CopyError, Order, Previous, Rules};
use crate::journal::Observation;
use crate::oci::{Digest, ManifestRef, SignatureTag, Tag, referrers_tag, signature_tags};
use crate::plan::{Action, Selected};
use crate::store::{ErrorKind, Side, Source, Step, StoreError};

/// How many tags of one repository are worked on at once.
const TAGS_AT_ONCE: usize = 32;

/// A pair that is worked on.
struct PairRun<'a> {
    run: &'a Run<'a>,
    pair: OpenPair,
    listing: Listing,
    selected: HashSet<Tag>,
    contested: Contested,
    /// For each target.
    there: Vec<There>,
    batch: std::sync::Arc<Batch>,
    derived: Derived,
    /// Signatures of unchanged tags that were looked at: tags of one digest have the same ones.
    companions: Mutex<HashSet<Tag>>,
    seen: Mutex<Vec<(usize, Observation)>>,
}

/// What the source has for a tag.
struct SourceSide {
    digest: Digest,
    /// The digest that the targets are to have for it.
    wanted: Digest,
    /// Whether the manifest has been read by the tag.
    is_read: bool,
}

/// Works on one pair until all its tags are settled.
pub(super) async fn work_pair(run: &Run<'_>, pair: &Pair, events: mpsc::Sender<Event>) {
    let opened = match pair.open(&run.engine.endpoints) {
        Ok(opened) => opened,
        Err(error) => return run.problem(error.to_string()),
    };
    let Some(Chosen { listing, selected, there, contested }) = choose(run, pair, &opened).await else { return };
    let entry = &run.errand.entry;
    let rules = Rules { platforms: entry.platforms.clone(), referrers: entry.referrers };
    let source_tags = listing.is_complete.then(|| listing.tags.keys().cloned().collect());
    let targets = opened.targets.iter().cloned().zip(there.iter().map(|there| there.contents)).collect();
    let batch = Batch::new(&run.engine.copier, opened.source.clone(), targets, rules, source_tags, events);
    let derived = Derived::new(run.engine.journal.clone(), entry.platforms.as_deref());
    let work = PairRun {
        run,
        pair: opened,
        listing,
        selected: selected.tags.iter().cloned().collect(),
        contested,
        there,
        batch,
        derived,
        companions: Mutex::default(),
        seen: Mutex::default(),
    };
    work.all(selected).await;
    work.remember().await;
}

/// What is known before single tags are asked for.
struct Chosen {
    listing: Listing,
    selected: Selected,
    there: Vec<There>,
    contested: Contested,
}

/// Asks for all of that at once. A problem that is told ends the pair, and what is still being asked then.
async fn choose(run: &Run<'_>, pair: &Pair, opened: &OpenPair) -> Option<Chosen> {
    let source = opened.source.as_ref();
    let listed = CancellationToken::new();
    let selected = async {
        let selected = select(run, source).await;
        listed.cancel();
        selected.ok_or(())
    };
    let look = |target| look(run, source, target, listed.cancelled());
    let there = join_all(opened.targets.iter().map(|target| look(target.as_ref()))).map(Ok);
    let rivals = rival_claims(run.engine, run.errand, pair).map(Ok);
    let ((listing, selected), there, rivals) = try_join3(selected, there, rivals).await.ok()?;
    let contested = rivals.contested_with(run.errand, pair, &selected.tags);
    Some(Chosen { listing, selected, there, contested })
}

/// The source's tags and those that the entry wants.
async fn select(run: &Run<'_>, source: &dyn Source) -> Option<(Listing, Selected)> {
    let selection = &run.errand.entry.selection;
    let listing = match list(source, selection).await {
        Ok(listing) => listing,
        Err(error) => {
            run.problem(format!("source {error}"));
            return None;
        }
    };
    for name in &listing.unusable {
        tracing::warn!(source = source.place(), name, "skipped: the name is not a tag by the specification");
    }
    match selection.select(names(&listing)).enough() {
        Ok(selected) => Some((listing, selected)),
        Err(shortfall) => {
            run.problem(format!("source {}: {shortfall}", source.place()));
            None
        }
    }
}

impl PairRun<'_> {
    async fn all(&self, selected: Selected) {
        let is_signature = |tag: &Tag| matches!(SignatureTag::read(tag), Some(SignatureTag::Cosign(_)));
        let (signatures, tags): (Vec<Tag>, Vec<Tag>) = selected.tags.into_iter().partition(is_signature);
        let digests = selected.digests.into_iter().map(ManifestRef::Digest);
        self.each(tags.into_iter().map(ManifestRef::Tag).chain(digests)).await;
        // Most have come with what they belong to.
        let left = signatures.into_iter().filter(|tag| !self.batch.has_signed(tag));
        self.each(left.map(ManifestRef::Tag)).await;
    }

    async fn each(&self, references: impl Iterator<Item = ManifestRef>) {
        stream::iter(references)
            .for_each_concurrent(TAGS_AT_ONCE, |reference| async move {
                if !self.run.is_draining() {
                    self.one(&reference).await;
                }
            })
            .await;
    }

    /// Compares one tag or pinned digest at both sides and copies it to the targets that differ.
    async fn one(&self, reference: &ManifestRef) {
        let known: Vec<Known> = self.there.iter().map(|there| there.knows(reference)).collect();
        let ask = |(target, known)| target_digest(target, known, reference, &self.contested);
        let targets = self.pair.targets.iter().map(AsRef::as_ref);
        let there = join_all(targets.zip(known.iter().copied()).map(ask));
        let (seen, there) = join(self.source_side(reference, &known), there).await;
        let SourceSide { digest: source_digest, wanted, is_read } = match seen {
            Ok(seen) => seen,
            Err((source_digest, outcome)) => return self.settle_all(reference, source_digest, &outcome).await,
        };
        let overwrite = overwrite(&self.run.errand.entry, reference);
        let decide = |there: Option<Digest>| (compare(reference, wanted, there, overwrite), there);
        let decided: Vec<_> = there.into_iter().map(|there| there.map(decide)).collect();
        let mut orders = Vec::new();
        for (at, decision) in decided.into_iter().enumerate() {
            match decision {
                Ok((action, there)) => {
                    self.saw(at, reference, source_digest, there);
                    match outcome_without_copy(&action) {
                        Some(outcome) => self.settle(at, reference, Some(source_digest), Some(wanted), outcome).await,
                        None => orders.push((at, action)),
                    }
                }
                Err(outcome) => self.settle(at, reference, Some(source_digest), Some(wanted), outcome).await,
            }
        }
        let kept: Vec<usize> =
            (0..self.pair.targets.len()).filter(|at| !orders.iter().any(|(order, _)| order == at)).collect();
        if !is_read
            && !orders.is_empty()
            && let Err(outcome) = self.confirm(reference, source_digest).await
        {
            for (at, _) in orders.drain(..) {
                self.settle(at, reference, Some(source_digest), Some(wanted), outcome.clone()).await;
            }
        }
        self.copy(reference, source_digest, orders).await;
        self.late_companions(reference, source_digest, wanted, &kept).await;
    }

    /// What the source has, and what the targets are to have for it. A failure comes with the source's digest if that is
    /// known.
    async fn source_side(
        &self,
        reference: &ManifestRef,
        known: &[Known],
    ) -> Result<SourceSide, (Option<Digest>, TagOutcome)> {
        let (digest, is_read) = self.source_digest(reference, known).await.map_err(|outcome| (None, outcome))?;
        match self.derived.of(&self.batch, digest).await {
            Ok(wanted) => Ok(SourceSide { digest, wanted, is_read }),
            Err(error) => Err((Some(digest), TagOutcome::failed(&error))),
        }
    }

    /// What the source has, and whether its manifest has been read by the tag. A tag that is at no target will be read in
    /// any case: then one GET tells its digest as well, unless reading is what the source counts.
    async fn source_digest(&self, reference: &ManifestRef, known: &[Known]) -> Result<(Digest, bool), TagOutcome> {
        let source = self.pair.source.as_ref();
        if let ManifestRef::Tag(tag) = reference
            && !source.counts_manifest_reads()
            && known.iter().all(|known| *known == Known::Absent)
            && self.listing.tags.get(tag).copied().flatten().is_none()
        {
            let read = self.batch.read_tag(tag).await;
            return read.map(|digest| (digest, true)).map_err(|error| TagOutcome::failed(&error));
        }
        source_digest(source, &self.listing, reference).await.map(|digest| (digest, false))
    }

    /// Reads the manifest of a tag that is to be copied by the tag itself. A source whose HEAD or list states the digest
    /// of something else that it has would otherwise move the target's tag to that. Where reading is counted, a digest
    /// that was read once is believed.
    async fn confirm(&self, reference: &ManifestRef, stated: Digest) -> Result<(), TagOutcome> {
        let ManifestRef::Tag(tag) = reference else { return Ok(()) };
        if self.pair.source.counts_manifest_reads() && self.batch.has_read(&stated) {
            return Ok(());
        }
        let read = self.batch.read_tag(tag).await.map_err(|error| TagOutcome::failed(&error))?;
        if read == stated {
            return Ok(());
        }
        let detail =
            format!("it was said to be {stated} and is {read}: the tag moved meanwhile, or the source is wrong");
        let error = StoreError::new(self.pair.source.place(), Step::ReadManifest, tag, ErrorKind::Corrupt, detail);
        Err(TagOutcome::failed_at(Side::Source, &error))
    }

    async fn copy(&self, reference: &ManifestRef, digest: Digest, orders: Vec<(usize, Action)>) {
        if orders.is_empty() {
            return;
        }
        let tag = match reference {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let targets = orders.iter().map(|(at, action)| (*at, previous(action))).collect();
        let order = Order { reference: reference.clone(), digest, tag, targets };
        for (at, result) in self.batch.copy(order).await {
            match result {
                Ok(arrival) => {
                    let action = orders.iter().find(|(order, _)| *order == at).map(|(_, action)| action);
                    arrived(self.run, &arrival, outcome_of(action)).await;
                }
                Err(error) => {
                    let outcome = TagOutcome::failed(&naming(error, digest));
                    self.settle(at, reference, Some(digest), None, outcome).await;
                }
            }
        }
    }

    /// Signatures and referrers that appeared at the source, under tags of their own, after their image was copied.
    async fn late_companions(&self, reference: &ManifestRef, source_digest: Digest, wanted: Digest, kept: &[usize]) {
        if kept.is_empty() || !self.run.errand.entry.referrers || source_digest != wanted {
            return;
        }
        for tag in signature_tags(&source_digest) {
            if self.is_listed(&tag) && !self.selected.contains(&tag) && self.is_first_to_see(&tag) {
                Box::pin(self.one(&ManifestRef::Tag(tag))).await;
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

    async fn settle_all(&self, reference: &ManifestRef, source_digest: Option<Digest>, outcome: &TagOutcome) {
        for at in 0..self.pair.targets.len() {
            self.settle(at, reference, source_digest, None, outcome.clone()).await;
        }
    }

    async fn settle(
        &self,
        at: usize,
        reference: &ManifestRef,
        source_digest: Option<Digest>,
        wanted: Option<Digest>,
        outcome: TagOutcome,
    ) {
        let tag = match reference {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let report = TagReport {
            source: self.pair.source.place().to_owned(),
            target: self.pair.targets[at].place().to_owned(),
            tag,
            digest: wanted.or(source_digest),
            source_digest,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        self.run.settle(report).await;
    }

    fn saw(&self, at: usize, reference: &ManifestRef, source_digest: Digest, target_digest: Option<Digest>) {
        if let ManifestRef::Tag(tag) = reference {
            let observation = Observation { tag: tag.clone(), source_digest, target_digest };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((at, observation));
        }
    }

    /// Writes to the journal which tags were seen.
    async fn remember(self) {
        let Some(journal) = &self.run.engine.journal else { return };
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut by_target: BTreeMap<usize, Vec<Observation>> = BTreeMap::new();
        for (at, observation) in seen {
            by_target.entry(at).or_default().push(observation);
        }
        let (entry, source) = (self.run.errand.entry.name.as_str(), self.pair.source.place());
        for (at, observations) in by_target {
            let target = self.pair.targets[at].place();
            if let Err(error) = journal.observe_tags(entry, source, target, observations, self.run.started).await {
                self.run.problem(error.to_string());
            }
        }
    }
}

fn outcome_without_copy(action: &Action) -> Option<TagOutcome> {
    match action {
        Action::Keep => Some(TagOutcome::Kept),
        Action::Refuse { reason } => Some(TagOutcome::Refused { reason: reason.clone() }),
        Action::Copy | Action::Replace { .. } | Action::ReplaceKeeping { .. } => None,
    }
}

/// The error of a step with a tag names the digest too that the tag was to have.
fn naming(error: CopyError, digest: Digest) -> CopyError {
    match error {
        CopyError::Store { side, mut error } if error.subject.parse::<Tag>().is_ok() => {
            error.subject = format!("{} ({digest})", error.subject);
            CopyError::Store { side, error }
        }
        other => other,
    }
}

fn previous(action: &Action) -> Option<Previous> {
    match action {
        Action::ReplaceKeeping { previous, under } => Some(Previous { digest: *previous, under: under.clone() }),
        _ => None,
    }
}

fn outcome_of(action: Option<&Action>) -> TagOutcome {
    match action {
        Some(Action::Replace { previous }) => TagOutcome::Replaced { previous: *previous, kept_as: None },
        Some(Action::ReplaceKeeping { previous, under }) => {
            TagOutcome::Replaced { previous: *previous, kept_as: Some(under.clone()) }
        }
        _ => TagOutcome::Copied,
    }
}
