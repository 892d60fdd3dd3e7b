//! Sync of one pair of repositories during a run: it selects the tags, compares each tag at both sides, and copies
//! those that differ. All tags proceed concurrently.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, SemaphorePermit, mpsc};
use tracing::{Instrument as _, Span, field};

use super::choice::{Chosen, choose};
use super::compare::{Conflicts, compare, overwrite, source_digest, sure_digest, target_digest};
use super::derived::Derived;
use super::journaling::arrived;
use super::listing::Listing;
use super::pairs::{OpenPair, Pair};
use super::referrer_checks::Checks;
use super::reserved_tags::{SortedTags, sort};
use super::run::Run;
use super::tag_slots::{Place, Places};
use super::target_listing::{TagState, TargetState};
use super::unfinished::surroundings;
use super::{TagOutcome, TagReport};
use crate::copy::event::{BlobCounts, Event};
use crate::copy::{Batch, CopyError, ListedTags, Order, Outcome, Previous, Rules};
use crate::journal::Observation;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::{Action, ForeignLayers, Selected};
use crate::store::{ErrorKind, Side, Step, StoreError};

/// Maximum number of unfinished tags of one repository, including those that wait for slower targets. The memory that
/// each of them uses is bounded; this constant bounds the total.
const TAGS_UNFINISHED: usize = 128;

/// Pair of repositories that a run is syncing.
pub(crate) struct RepositorySync<'a> {
    pub(crate) run: &'a Run<'a>,
    /// Span of the pair's log lines.
    span: Span,
    pub(crate) pair: OpenPair,
    pub(crate) listing: Listing,
    pub(crate) selected: HashSet<Tag>,
    /// Tags whose digest the entry itself gives.
    pins: BTreeMap<Tag, Digest>,
    conflicts: Conflicts,
    /// State of each target.
    there: Vec<TargetState>,
    pub(crate) batch: Arc<Batch>,
    /// Digests that were compared: their referrers are copied with them.
    compared: Mutex<HashSet<Digest>>,
    /// Slot among the repositories that copy, held from the first copy on.
    copying: OnceCell<Option<SemaphorePermit<'a>>>,
    pub(crate) derived: Derived,
    pub(crate) checks: Checks,
    /// Signatures of unchanged tags that were checked: tags of one digest have the same ones.
    pub(crate) companions: Mutex<HashSet<Tag>>,
    /// Lists of referrers that this run has requested from the source.
    pub(crate) lists: Mutex<HashMap<Tag, Digest>>,
    /// Tags with the name form of a list of referrers that point at other content at the source.
    pub(crate) no_lists: Mutex<HashSet<Tag>>,
    /// Locks that let one task at a time read a digest, for a source that counts reads.
    reading: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    seen: Mutex<Vec<(usize, Observation)>>,
}

/// Tag or pinned digest, compared at both sides.
struct Compared {
    source_digest: Digest,
    /// Digest that the targets are to have for it.
    wanted: Digest,
    /// Action for each target, and the digest that the target has.
    decided: Vec<Result<(Action, Option<Digest>), TagOutcome>>,
    /// Result of the check that the content to copy is the content of the tag.
    confirmed: Result<(), Unconfirmed>,
}

/// Reason for which a tag is not copied although a target needs it.
enum Unconfirmed {
    /// The bytes have another digest than the source stated.
    Differs(TagOutcome),
    /// The manifest cannot be read.
    Unread(TagOutcome),
}

/// Content of a tag at the source.
struct SourceSide {
    digest: Digest,
    /// Digest that the targets are to have for it.
    wanted: Digest,
    /// True if the manifest has been read by the tag.
    is_read: bool,
}

/// Syncs one pair until all its tags are settled.
pub(crate) async fn work_pair(run: &Run<'_>, pair: &Pair, events: mpsc::Sender<Event>) {
    let opened = match pair.open(&run.request.entry, &run.engine.endpoints) {
        Ok(opened) => opened,
        Err(error) => return run.problem(error.to_string()),
    };
    let Some(Chosen { listing, selected, there, conflicts, checks }) = choose(run, pair, &opened).await else { return };
    let entry = &run.request.entry;
    let rules = Rules {
        platforms: entry.platforms.clone(),
        referrers: entry.referrers,
        foreign_layers: entry.foreign_layers == ForeignLayers::Copy,
    };
    let source_tags = listing.is_complete.then(|| ListedTags::read(listing.tags.keys()));
    let targets = opened.targets.iter().cloned().zip(there.iter().map(|there| there.contents)).collect();
    let copier = run.engine.copier.for_tenant(run.request.entry.name.as_str());
    let batch = Batch::new(&copier, opened.source.clone(), targets, rules, source_tags, surroundings(run, events));
    let derived = Derived::new(run.engine.journal.clone(), entry.platforms.as_deref());
    let work = RepositorySync {
        run,
        span: Span::current(),
        pair: opened,
        listing,
        selected: selected.tags.iter().cloned().collect(),
        pins: selected.pins.clone(),
        conflicts,
        there,
        batch,
        copying: OnceCell::new(),
        derived,
        checks,
        companions: Mutex::default(),
        lists: Mutex::default(),
        no_lists: Mutex::default(),
        compared: Mutex::default(),
        reading: Mutex::default(),
        seen: Mutex::default(),
    };
    work.all(selected).await;
    run.doubt(work.pair.source.place(), work.batch.doubted_referrers());
    work.remember().await;
}

impl RepositorySync<'_> {
    async fn all(&self, selected: Selected) {
        let entry = &self.run.request.entry;
        let SortedTags { ordinary, signatures, reserved, unwanted } =
            sort(selected.tags, &entry.selection, entry.referrers);
        if !unwanted.is_empty() {
            let (source, count) = (self.pair.source.place(), unwanted.len());
            tracing::info!(source, count, "skipped tags of signatures: `referrers: false`");
        }
        let count = ordinary.len() + signatures.len() + selected.pins.len() + selected.digests.len();
        self.run.chosen(count * self.pair.targets.len()).await;
        let digests = selected.digests.into_iter().map(ManifestRef::Digest);
        self.ask_what_is_left(ordinary.first()).await;
        let pins = selected.pins.into_keys();
        self.each(ordinary.into_iter().chain(pins).map(ManifestRef::Tag).chain(digests)).await;
        self.settle_reserved(reserved).await;
        // Most signatures have arrived with the tags that they belong to.
        let left = signatures.into_iter().filter(|tag| !self.batch.has_signed(tag));
        self.each(left.map(ManifestRef::Tag)).await;
    }

    /// Queries the remaining reads of a source that counts them: the number of tags in progress at once depends on it.
    /// The answer to a HEAD states it, and a HEAD does not count as a read.
    async fn ask_what_is_left(&self, tag: Option<&Tag>) {
        let source = self.pair.source.as_ref();
        if let Some(tag) = tag
            && source.counts_manifest_reads()
            && source.manifest_reads_left().is_none()
        {
            // The same error occurs for the tag itself, which reports it.
            let _ = source.resolve(&tag.clone().into()).await;
        }
    }

    /// Returns true if the digest is that of a selected tag or pin at the source.
    pub(crate) fn has_compared(&self, digest: &Digest) -> bool {
        self.compared.lock().contains(digest)
    }

    pub(crate) async fn each(&self, references: impl Iterator<Item = ManifestRef>) {
        let places = &Places::new();
        let reads_left = || self.pair.source.manifest_reads_left();
        stream::iter(references)
            .for_each_concurrent(TAGS_UNFINISHED, |reference| async move {
                let place = places.enter(reads_left).await;
                if !self.run.is_draining() {
                    self.one(&reference, &place).await;
                }
            })
            .await;
    }

    /// Compares one tag or pinned digest at both sides and copies it to the targets that differ.
    pub(crate) async fn one(&self, reference: &ManifestRef, place: &Place<'_>) {
        // A signature may be settled within the span of the tag that it signs; its own log lines are about the
        // signature.
        let span = match reference {
            ManifestRef::Tag(tag) => tracing::info_span!(parent: &self.span, "tag", %tag, digest = field::Empty),
            ManifestRef::Digest(digest) => tracing::info_span!(parent: &self.span, "digest", %digest),
        };
        self.compare_and_copy(reference, place).instrument(span).await;
    }

    async fn compare_and_copy(&self, reference: &ManifestRef, place: &Place<'_>) {
        let compared = match self.compare_sides(reference, &self.listing, place).await {
            // Nothing has been reported yet. The digest of a tag that moved in the meantime is requested once more.
            Ok(Compared { confirmed: Err(Unconfirmed::Differs(_)), .. }) => {
                self.compare_sides(reference, &Listing::default(), place).await
            }
            compared => compared,
        };
        let Compared { source_digest, wanted, decided, confirmed } = match compared {
            Ok(compared) => compared,
            Err((source_digest, outcome)) => return self.settle_all(reference, source_digest, &outcome).await,
        };
        Span::current().record("digest", field::display(wanted));
        self.compared.lock().insert(source_digest);
        let (mut orders, mut kept) = (Vec::new(), Vec::new());
        for (at, decision) in decided.into_iter().enumerate() {
            let settled = match decision {
                Ok((action, there)) => {
                    self.saw(at, reference, source_digest, there);
                    if action == Action::Unchanged {
                        kept.push(at);
                    }
                    match (outcome_without_copy(&action), &confirmed) {
                        (Some(outcome), _) => outcome,
                        (None, Err(Unconfirmed::Differs(outcome) | Unconfirmed::Unread(outcome))) => outcome.clone(),
                        (None, Ok(())) => {
                            orders.push((at, action));
                            continue;
                        }
                    }
                }
                Err(outcome) => outcome,
            };
            self.settle(at, reference, Some(source_digest), Some(wanted), settled).await;
            place.leave();
        }
        self.copy(reference, source_digest, orders, place).await;
        self.late_companions(reference, source_digest, wanted, &kept, place).await;
    }

    /// Queries both sides at once, and decides. The source is queried for the facts that `listing` does not have. An
    /// error comes with the source's digest if that is known.
    async fn compare_sides(
        &self,
        reference: &ManifestRef,
        listing: &Listing,
        place: &Place<'_>,
    ) -> Result<Compared, (Option<Digest>, TagOutcome)> {
        let known: Vec<TagState> = self.there.iter().map(|there| there.knows(reference)).collect();
        let overwrite = overwrite(&self.run.request.entry, reference);
        let there = join_all(self.pair.targets.iter().zip(&known).map(|(target, known)| {
            let span = tracing::info_span!("target", target = target.place());
            target_digest(target.as_ref(), *known, reference, &self.conflicts, overwrite).instrument(span)
        }));
        let (seen, there) = join(self.source_side(reference, listing, &known, place), there).await;
        let SourceSide { digest: source_digest, wanted, is_read } = seen?;
        let told = known.into_iter().zip(there).enumerate();
        let decided =
            join_all(told.map(|(at, (known, there))| self.decide(at, reference, wanted, (known, there)))).await;
        let is_ordered = decided.iter().flatten().any(|(action, _)| outcome_without_copy(action).is_none());
        let confirmed =
            if is_ordered && !is_read { self.confirm(reference, source_digest, place).await } else { Ok(()) };
        Ok(Compared { source_digest, wanted, decided, confirmed })
    }

    /// Decides the action at one target, from the known state of the tag and from the target's answer for the rest.
    async fn decide(
        &self,
        at: usize,
        reference: &ManifestRef,
        wanted: Digest,
        (known, there): (TagState, Result<Option<Digest>, TagOutcome>),
    ) -> Result<(Action, Option<Digest>), TagOutcome> {
        let target = self.pair.targets[at].as_ref();
        let overwrite = overwrite(&self.run.request.entry, reference);
        let there = sure_digest(target, reference, (known, there?), wanted, overwrite).await?;
        let action = compare(reference, wanted, there, overwrite);
        if outcome_without_copy(&action).is_none() && self.there[at].is_locked(reference) {
            let reason = format!(
                "the registry has locked the tag {reference}: it may not be written until it is unlocked there"
            );
            return Err(TagOutcome::Blocked { reason });
        }
        if outcome_without_copy(&action).is_none() {
            self.spare_list(target, reference).await?;
        }
        Ok((action, there))
    }

    /// Returns the source's digest and the digest that the targets are to have for it. An error comes with the source's
    /// digest if that is known.
    async fn source_side(
        &self,
        reference: &ManifestRef,
        listing: &Listing,
        known: &[TagState],
        place: &Place<'_>,
    ) -> Result<SourceSide, (Option<Digest>, TagOutcome)> {
        let (digest, is_read) =
            self.source_digest(reference, listing, known, place).await.map_err(|outcome| (None, outcome))?;
        match self.derived.of(&self.batch, digest).await {
            Ok(wanted) => Ok(SourceSide { digest, wanted, is_read }),
            Err(error) => Err((Some(digest), TagOutcome::failed(&error))),
        }
    }

    /// Returns the source's digest, and true if its manifest has been read by the tag. A tag that is at no target must
    /// be read in any case, so one GET also yields its digest. There are two exceptions: a source that counts reads,
    /// and a source with mirrors.
    async fn source_digest(
        &self,
        reference: &ManifestRef,
        listing: &Listing,
        known: &[TagState],
        place: &Place<'_>,
    ) -> Result<(Digest, bool), TagOutcome> {
        if let Some(digest) = self.pinned(reference) {
            return Ok((digest, true));
        }
        let source = self.pair.source.as_ref();
        if let ManifestRef::Tag(tag) = reference
            && !source.counts_manifest_reads()
            && !source.is_mirrored()
            && known.iter().all(|known| *known == TagState::Absent)
            && listing.tags.get(tag).copied().flatten().is_none()
        {
            self.before_reading(place).await;
            // The source may have turned out in the meantime to count reads. Then the digest is requested first, as
            // always at such a source.
            if !source.counts_manifest_reads() {
                let read = self.batch.read_tag(tag).await;
                return read.map(|digest| (digest, true)).map_err(|error| TagOutcome::failed(&error));
            }
        }
        source_digest(source, listing, reference).await.map(|digest| (digest, false))
    }

    /// Returns the digest that the entry itself gives for a tag. The source is then read by that digest, whatever its
    /// tag points at.
    fn pinned(&self, reference: &ManifestRef) -> Option<Digest> {
        match reference {
            ManifestRef::Tag(tag) => self.pins.get(tag).copied(),
            ManifestRef::Digest(_) => None,
        }
    }

    /// Reads the manifest of a tag that is to be copied, by the tag itself. A source whose HEAD or list states the
    /// digest of other content that it has would otherwise move the target's tag to that content. If the source counts
    /// reads, a digest that was read once is trusted. If the source has mirrors, the registry's statement is trusted,
    /// because it is the mirrors that are read.
    async fn confirm(&self, reference: &ManifestRef, stated: Digest, place: &Place<'_>) -> Result<(), Unconfirmed> {
        let ManifestRef::Tag(tag) = reference else { return Ok(()) };
        let source = &self.pair.source;
        if source.is_mirrored() {
            return Ok(());
        }
        self.before_reading(place).await;
        // Tags of one digest wait for the first of them.
        let turn = source.counts_manifest_reads().then(|| self.turn_to_read(stated));
        let _turn = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        if turn.is_some() && self.batch.has_read(&stated) {
            return Ok(());
        }
        let read = self.batch.read_tag(tag).await;
        let read = read.map_err(|error| Unconfirmed::Unread(TagOutcome::failed(&error)))?;
        if read == stated {
            return Ok(());
        }
        let detail =
            format!("it was said to be {stated} and is {read}: the tag moved meanwhile, or the source is wrong");
        let error = StoreError::new(self.pair.source.place(), Step::ReadManifest, tag, ErrorKind::Corrupt, detail);
        Err(Unconfirmed::Differs(TagOutcome::failed_at(Side::Source, &error)))
    }

    /// Waits until a tag may use the reads that its source counts.
    async fn before_reading(&self, place: &Place<'_>) {
        let source = self.pair.source.as_ref();
        place.before_reading(|| source.manifest_reads_left(), || source.wait_until_manifest_reads_known()).await;
    }

    fn turn_to_read(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        self.reading.lock().entry(digest).or_default().clone()
    }

    /// Copies to these targets. The outcome at each target is recorded as soon as it is known, independent of the
    /// others.
    async fn copy(&self, reference: &ManifestRef, digest: Digest, orders: Vec<(usize, Action)>, place: &Place<'_>) {
        if orders.is_empty() {
            return;
        }
        let tag = match reference {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let targets = orders.iter().map(|(at, action)| (*at, previous(action))).collect();
        let at_source = self.pinned(reference).map_or_else(|| reference.clone(), ManifestRef::Digest);
        let order = Order { reference: at_source, digest, tag, targets };
        let record = async |(at, result): Outcome| {
            place.leave();
            match result {
                Ok(arrival) => {
                    let action = orders.iter().find(|(order, _)| *order == at).map(|(_, action)| action);
                    let told = arrived(self.run, &arrival, outcome_of(action));
                    join(told, self.checks.note_arrival(&self.batch, reference, &arrival)).await;
                }
                Err(error) => {
                    let outcome = TagOutcome::failed(&naming(error, digest));
                    self.settle(at, reference, Some(digest), None, outcome).await;
                }
            }
        };
        self.copies(order).await.for_each_concurrent(None, record).await;
    }

    async fn settle_all(&self, reference: &ManifestRef, source_digest: Option<Digest>, outcome: &TagOutcome) {
        for at in 0..self.pair.targets.len() {
            self.settle(at, reference, source_digest, None, outcome.clone()).await;
        }
    }

    /// Returns the outcome of an order at each target, as soon as this repository may copy.
    pub(crate) async fn copies(&self, order: Order) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.enter_copying()).await;
        self.batch.copy_each(order)
    }

    /// Returns the same for a digest that the targets already have, to copy its referrers.
    pub(crate) async fn refreshes(&self, order: Order) -> BoxStream<'static, Outcome> {
        self.copying.get_or_init(|| self.run.enter_copying()).await;
        self.batch.refresh_each(order)
    }

    pub(crate) async fn settle(
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
            self.seen.lock().push((at, observation));
        }
    }

    /// Records in the journal the tags that were seen.
    async fn remember(self) {
        self.checks.forget_old().await;
        if self.run.request.only.is_some() {
            // Observations that are recorded together are those of a whole run; this run sees only a few tags.
            return;
        }
        let Some(journal) = &self.run.engine.journal else { return };
        let seen = self.seen.into_inner();
        let mut by_target: BTreeMap<usize, Vec<Observation>> = BTreeMap::new();
        for (at, observation) in seen {
            by_target.entry(at).or_default().push(observation);
        }
        let (entry, source) = (self.run.request.entry.name.as_str(), self.pair.source.place());
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
        Action::Unchanged => Some(TagOutcome::Unchanged),
        Action::Block { reason } => Some(TagOutcome::Blocked { reason: reason.clone() }),
        Action::Copy | Action::Replace { .. } | Action::ReplaceKeeping { .. } => None,
    }
}

/// Adds the digest that the tag was to have to the error of a step that has a tag as its subject.
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
        Action::Replace { previous } => Some(Previous { digest: *previous, under: None }),
        Action::ReplaceKeeping { previous, under } => Some(Previous { digest: *previous, under: Some(under.clone()) }),
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
