//! Preview of a run. The preview makes the decisions of a run and rehearses the copies: it reads manifests and lists of
//! referrers at the source, and looks for manifests and blobs at the targets. It transfers no blobs and writes nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::rehearsal::{RehearsedSource, RehearsedTarget};
use crate::config::{Entry, Warning};
use crate::copy::event::{Arrival, BlobCounts, Event, LeftBehind};
use crate::copy::{Batch, BatchContext, Contents, CopyJob, ListedTags, Rules};
use crate::oci::{Digest, ManifestRef, Tag, signature_tags};
use crate::plan::{Action, ForeignLayers, ReservedForm, Verdict, sort_newest_first};
use crate::store::{Source, Target};
use crate::sync::comparison::conflicts::{Conflicts, query_rival_claims};
use crate::sync::comparison::tag_comparison::{
    decide_action, overwrite_rule, query_source_digest, query_target_digest,
};
use crate::sync::comparison::tag_naming::{ReportedTag, target_reference};
use crate::sync::comparison::target_listing::TagState;
use crate::sync::journaling::derived_digests::DerivedDigests;
use crate::sync::referrers::reserved_tags::{ReservedContent, SortedTags, identify_content, sort_by_form};
use crate::sync::repository::tag_sync::previous_content;
use crate::sync::selection::coverage::Coverage;
use crate::sync::selection::listing::{Listing, list_tags, tag_names};
use crate::sync::selection::pairs::{OpenPair, Pair, list_pairs};
use crate::sync::{Engine, LeftBehindReport, OpenError, RunRequest, TagOutcome};

/// Maximum number of repositories that are previewed at once.
const REPOSITORIES_AT_ONCE: usize = 8;

/// Maximum number of tags of one repository that are previewed at once.
const TAGS_AT_ONCE: usize = 32;

/// Maximum number of events of rehearsed copies that wait for the preview.
const WAITING_EVENTS: usize = 256;

/// Reads of manifests from sources that count these reads as pulls (Docker Hub).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CountedReads {
    /// The preview does not read the manifests that a copy would read. So the bytes of such a copy are unknown.
    #[default]
    Avoid,
    /// The preview reads these manifests like a run, and uses up the same pulls.
    Spend,
}

/// Preview of a run of one entry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EntryPreview {
    /// The entry's name.
    pub entry: String,
    /// The previews of the entry's source repositories.
    pub pairs: Vec<PairPreview>,
    /// The failures that do not belong to a single tag.
    pub problems: Vec<String>,
    /// Pulls that the copies of a run use up, for each source registry that counts pulls.
    pub pulls: Vec<PlannedPulls>,
    /// Referrers and signatures that a run could not copy with their tags.
    pub left_behind: Vec<LeftBehindReport>,
    /// Warnings about selected items that do not exist, such as a pattern without a match. The warnings do not change
    /// the exit code.
    pub warnings: Vec<Warning>,
}

/// Pulls that a run uses up at one registry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlannedPulls {
    /// Source registry.
    pub registry: String,
    /// Number of reads of manifests.
    #[serde(rename = "manifests")]
    pub pulls: u64,
    /// True if `pulls` is only the minimum, because the preview did not read the manifests.
    pub is_minimum: bool,
}

/// Preview of a run for one source repository.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PairPreview {
    /// The source repository.
    pub source: String,
    /// The target repositories.
    pub targets: Vec<String>,
    /// The decision about each tag of the source, selected or not, with its reason.
    pub verdicts: Vec<Verdict>,
    /// Names in the source's list that are not valid tags.
    pub unusable: Vec<String>,
    /// The preview of each selected tag, and of each pinned digest, at each target.
    pub tags: Vec<TagPreview>,
}

/// Preview of one tag or pinned digest at one target.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TagPreview {
    /// The target repository.
    pub target: String,
    /// The tag at the target; `None` for a pinned digest.
    pub tag: Option<Tag>,
    /// The tag at the source, if the entry gives it another name at the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_tag: Option<Tag>,
    /// The digest at the source.
    pub source_digest: Option<Digest>,
    /// The digest that the target should have.
    pub digest: Option<Digest>,
    /// The action that a run would take.
    #[serde(flatten)]
    pub action: Option<Action>,
    /// The failure, if no action can be determined or taken.
    #[serde(flatten)]
    pub failure: Option<TagOutcome>,
    /// The content that the action would transfer. `None` if the action copies nothing, or if the content is unknown.
    #[serde(flatten)]
    pub content: Option<PlannedContent>,
}

/// Content that a copy would transfer, without the content that the target already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct PlannedContent {
    /// Number of bytes of blobs and manifests, with referrers and signatures.
    pub bytes: u64,
    /// Number of manifests of the copy, with referrers and signatures.
    pub manifests: u64,
    /// Blobs of the copy by their outcome.
    pub blobs: BlobCounts,
}

impl From<&Arrival> for PlannedContent {
    fn from(arrival: &Arrival) -> Self {
        Self { bytes: arrival.bytes, manifests: arrival.manifests, blobs: arrival.blobs }
    }
}

impl TagPreview {
    /// Returns true if a run would write the tag.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.action.as_ref().is_some_and(|action| !matches!(action, Action::Unchanged | Action::Block { .. }))
    }
}

impl EntryPreview {
    /// Returns true if a run would change a target.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.tags().any(TagPreview::is_change)
    }

    /// Returns the known bytes that a run would transfer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tags().filter_map(|tag| tag.content).map(|content| content.bytes).sum()
    }

    /// Returns true if the content of each change is known.
    #[must_use]
    pub fn knows_all_bytes(&self) -> bool {
        self.tags().filter(|tag| tag.is_change()).all(|tag| tag.content.is_some())
    }

    /// Returns true if a fact could not be determined, or if an action would fail.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        !self.problems.is_empty() || self.tags().any(|tag| tag.failure.is_some())
    }

    /// Returns the tags and pinned digests of all pairs at all targets.
    pub fn tags(&self) -> impl Iterator<Item = &TagPreview> {
        self.pairs.iter().flat_map(|pair| &pair.tags)
    }
}

/// Determines the actions of a run without performing them. Uses up no pulls. Cancel safe.
pub async fn preview(engine: &Engine, request: &RunRequest) -> EntryPreview {
    preview_with_reads(engine, request, CountedReads::Avoid).await
}

/// Determines the actions of a run without performing them, with or without reads that count as pulls. Cancel safe.
pub async fn preview_with_reads(engine: &Engine, request: &RunRequest, reads: CountedReads) -> EntryPreview {
    let coverage = &Mutex::new(Coverage::default());
    let rehearsed = &RehearsedCopies::default();
    let observe = Box::new(|name: &str| coverage.lock().add_repository(&request.entry, name));
    let found: Vec<Result<PairPreview, Unpreviewed>> = list_pairs(&request.entry, &engine.endpoints, observe)
        .map(|pair| async move {
            let pair = pair.map_err(|error| Unpreviewed::new(&error))?;
            let preview = PreviewContext { engine, request, reads, coverage, rehearsed };
            preview.preview_pair(&pair).await.map_err(Unpreviewed::Problem)
        })
        .buffer_unordered(REPOSITORIES_AT_ONCE)
        .collect()
        .await;
    let (mut pairs, mut problems, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for pair in found {
        match pair {
            Ok(pair) => pairs.push(pair),
            Err(Unpreviewed::Problem(problem)) => problems.push(problem),
            Err(Unpreviewed::LeftBehind(item)) => unread.push(item),
        }
    }
    pairs.sort_by(|a, b| a.source.cmp(&b.source));
    let entry = &request.entry;
    let mut left_behind = std::mem::take(&mut *rehearsed.left_behind.lock());
    left_behind.sort();
    let mut coverage = coverage.lock();
    if !problems.is_empty() || !unread.is_empty() {
        coverage.mark_partial();
    }
    problems.extend(coverage.shortfall(entry).map(|shortfall| format!("source {}: {shortfall}", entry.source)));
    let unread = unread.into_iter().map(|LeftBehind { what, reason }| Warning {
        entry: Some(entry.name.to_string()),
        text: format!("{what} cannot be copied: {reason}"),
        remedy: None,
    });
    let warnings = unread.chain(coverage.warnings(entry)).collect();
    EntryPreview {
        entry: entry.name.to_string(),
        pairs,
        problems,
        pulls: rehearsed.pulls.lock().values().cloned().collect(),
        left_behind,
        warnings,
    }
}

/// Part of an entry's source without a preview.
enum Unpreviewed {
    /// The run would fail.
    Problem(String),
    /// The run would leave the part behind.
    LeftBehind(LeftBehind),
}

impl Unpreviewed {
    fn new(error: &OpenError) -> Self {
        error.left_behind().map_or_else(|| Self::Problem(error.with_side()), Self::LeftBehind)
    }
}

/// Results of the rehearsed copies of an entry.
#[derive(Default)]
struct RehearsedCopies {
    /// Pulls by registry.
    pulls: Mutex<BTreeMap<String, PlannedPulls>>,
    left_behind: Mutex<Vec<LeftBehindReport>>,
}

impl RehearsedCopies {
    fn add_pulls(&self, registry: &str, pulls: u64, is_minimum: bool) {
        if pulls == 0 {
            return;
        }
        let mut known = self.pulls.lock();
        let none = || PlannedPulls { registry: registry.to_owned(), pulls: 0, is_minimum: false };
        let planned = known.entry(registry.to_owned()).or_insert_with(none);
        planned.pulls += pulls;
        planned.is_minimum |= is_minimum;
    }

    fn add_left_behind(&self, arrival: &Arrival) {
        let mut all = self.left_behind.lock();
        for left in &arrival.left_behind {
            let report = LeftBehindReport { target: arrival.target.clone(), left: left.clone() };
            if !all.contains(&report) {
                all.push(report);
            }
        }
    }
}

/// Context of the preview of one pair of repositories.
struct PreviewContext<'a> {
    engine: &'a Engine,
    request: &'a RunRequest,
    reads: CountedReads,
    coverage: &'a Mutex<Coverage>,
    rehearsed: &'a RehearsedCopies,
}

impl PreviewContext<'_> {
    /// Previews one pair of repositories. The error is a message for the user.
    async fn preview_pair(&self, pair: &Pair) -> Result<PairPreview, String> {
        let Self { engine, request, .. } = self;
        let opened = pair.open(&request.entry, &engine.endpoints).map_err(|error| error.to_string())?;
        let source = Arc::new(RehearsedSource::new(opened.source));
        let rehearsed = |target| Arc::new(RehearsedTarget(target)) as Arc<dyn Target>;
        let targets = opened.targets.into_iter().map(rehearsed).collect();
        let opened = OpenPair { source: source.clone(), targets };
        let entry = &request.entry;
        let listing =
            list_tags(opened.source.as_ref(), &entry.selection).await.map_err(|error| format!("source {error}"))?;
        let (events, mut received) = mpsc::channel(WAITING_EVENTS);
        let signatures = Mutex::new(Vec::new());
        let collect = async {
            while let Some(event) = received.recv().await {
                collect_signature(event, &signatures);
            }
            // The sender lives as long as the work below.
            std::future::pending().await
        };
        let mut preview = tokio::select! {
            preview = self.preview_opened(pair, &opened, listing, events) => preview?,
            () = collect => return Err("the preview ended early".to_owned()),
        };
        while let Ok(event) = received.try_recv() {
            collect_signature(event, &signatures);
        }
        for arrival in signatures.into_inner() {
            self.rehearsed.add_left_behind(&arrival);
            preview.tags.push(TagPreview::of_signature(&arrival));
        }
        preview.sort_tags();
        let unread = if self.avoids_reads(source.as_ref()) {
            preview.tags.iter().filter(|tag| tag.is_change() && tag.content.is_none()).count() as u64
        } else {
            0
        };
        self.rehearsed.add_pulls(source.scope().as_str(), source.pulls() + unread, unread > 0);
        Ok(preview)
    }

    /// Returns true if the preview must not read manifests from the source.
    fn avoids_reads(&self, source: &dyn Source) -> bool {
        self.reads == CountedReads::Avoid && source.counts_manifest_reads()
    }

    async fn preview_opened(
        &self,
        pair: &Pair,
        opened: &OpenPair,
        mut listing: Listing,
        events: mpsc::Sender<Event>,
    ) -> Result<PairPreview, String> {
        let Self { engine, request, .. } = self;
        let entry = &request.entry;
        let selected = entry.selection.select(tag_names(&listing));
        self.coverage.lock().add(entry, &listing, &selected);
        let conflicts = query_rival_claims(engine, request, pair).await.conflicts_with(request, pair, &selected, &[]);
        let batch = self.batch(opened, &listing, events);
        let derived = DerivedDigests::new(engine.journal.clone(), entry.platforms.as_deref());
        let listed: HashSet<Tag> =
            if listing.is_complete { listing.tags.keys().cloned().collect() } else { HashSet::new() };
        // The pinned digest of a tag replaces the digest of the tag at the source.
        listing.tags.extend(selected.pins.iter().map(|(tag, digest)| (tag.clone(), Some(*digest))));
        let queries =
            PairQueries { context: self, pair: opened, conflicts: &conflicts, derived: &derived, batch: &batch };
        let SortedTags { ordinary, signatures, reserved, unwanted } =
            sort_by_form(selected.tags.clone(), &entry.selection, entry.referrers);
        let mut verdicts = selected.verdicts.clone();
        for tag in &unwanted {
            deselect(&mut verdicts, tag, "a signature, and the entry has `referrers: false`".to_owned());
        }
        let pins = selected.pins.keys().cloned();
        let references = ordinary.into_iter().chain(pins).map(ManifestRef::Tag);
        let references: Vec<_> = references.chain(selected.digests.iter().copied().map(ManifestRef::Digest)).collect();
        let mut tags = queries.preview_each(&references, &listing).await;
        let is_late = |tag: &Tag| listed.contains(tag) && !selected.tags.contains(tag);
        let late: Vec<ManifestRef> = if entry.referrers { late_signatures(&tags, is_late) } else { Vec::new() };
        tags.extend(queries.preview_each(&late, &listing).await);
        let reserved = queries.select_reserved(reserved, &listing, &tags, &mut verdicts).await;
        tags.extend(queries.preview_each(&reserved, &listing).await);
        // Most signatures come with their images.
        let remaining = signatures.into_iter().filter(|tag| !batch.has_signed(tag)).map(ManifestRef::Tag);
        tags.extend(queries.preview_each(&remaining.collect::<Vec<_>>(), &listing).await);
        let preview = PairPreview {
            source: opened.source.place().to_owned(),
            targets: opened.targets.iter().map(|target| target.place().to_owned()).collect(),
            verdicts,
            unusable: listing.unusable.clone(),
            tags,
        };
        listing.warn_of_skipped(opened.source.place());
        if let Some(problem) = listing.untagged_error(opened.source.place(), &selected) {
            return Err(problem);
        }
        // For a tree, `at_least` applies to all repositories together.
        let is_tree = entry.source.is_tree();
        match if is_tree { Ok(selected) } else { selected.enough() } {
            Ok(_) => Ok(preview),
            Err(shortfall) => Err(format!("source {}: {shortfall}", preview.source)),
        }
    }

    /// Returns the batch of the rehearsed copies, with the rules of a run.
    fn batch(&self, opened: &OpenPair, listing: &Listing, events: mpsc::Sender<Event>) -> Arc<Batch> {
        let entry = &self.request.entry;
        let rules = Rules {
            platforms: entry.platforms.clone(),
            referrers: entry.referrers,
            foreign_layers: entry.foreign_layers == ForeignLayers::Copy,
        };
        let source_tags = listing.is_complete.then(|| ListedTags::read(listing.tags.keys()));
        let targets = opened.targets.iter().map(|target| (target.clone(), Contents::Unknown)).collect();
        let copier = self.engine.copier.for_tenant(entry.name.as_str());
        Batch::new(&copier, opened.source.clone(), targets, rules, source_tags, BatchContext::from(events))
    }
}

fn collect_signature(event: Event, signatures: &Mutex<Vec<Arrival>>) {
    if let Event::SignatureArrived(arrival) = event {
        signatures.lock().push(*arrival);
    }
}

/// Returns the tags of signatures that appeared after their image was copied: `is_late` is true for them.
fn late_signatures(tags: &[TagPreview], is_late: impl Fn(&Tag) -> bool) -> Vec<ManifestRef> {
    let unchanged = tags.iter().filter(|tag| tag.action == Some(Action::Unchanged) && tag.digest == tag.source_digest);
    let subjects: HashSet<Digest> = unchanged.filter_map(|tag| tag.source_digest).collect();
    let mut late: Vec<Tag> = subjects.iter().flat_map(signature_tags).filter(|tag| is_late(tag)).collect();
    late.sort();
    late.into_iter().map(ManifestRef::Tag).collect()
}

impl PairPreview {
    /// Sorts the tags and the verdicts: the newest version first, signatures after the other tags, and digests last.
    fn sort_tags(&mut self) {
        let (digests, mut tags): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.tags).into_iter().partition(|tag| tag.tag.is_none());
        tags.sort_by(|a, b| (&a.tag, &a.target).cmp(&(&b.tag, &b.target)));
        let mut named: Vec<(Tag, TagPreview)> =
            tags.into_iter().filter_map(|tag| Some((tag.tag.clone()?, tag))).collect();
        sort_newest_first(&mut named, |(tag, _)| tag);
        self.tags = named.into_iter().map(|(_, tag)| tag).chain(digests).collect();
        sort_newest_first(&mut self.verdicts, |verdict| &verdict.tag);
    }
}

impl TagPreview {
    /// Creates the preview of a signature that a run would copy with its image.
    fn of_signature(arrival: &Arrival) -> Self {
        Self {
            target: arrival.target.clone(),
            tag: arrival.tag.clone(),
            source_tag: None,
            source_digest: Some(arrival.source_digest),
            digest: Some(arrival.digest),
            action: Some(Action::Copy),
            failure: None,
            content: Some(arrival.into()),
        }
    }
}

/// Context of the requests for single tags.
struct PairQueries<'a> {
    context: &'a PreviewContext<'a>,
    pair: &'a OpenPair,
    conflicts: &'a Conflicts,
    derived: &'a DerivedDigests,
    batch: &'a Arc<Batch>,
}

impl PairQueries<'_> {
    /// Previews these tags and digests at all targets.
    async fn preview_each(&self, references: &[ManifestRef], listing: &Listing) -> Vec<TagPreview> {
        let previews =
            stream::iter(references).map(|reference| self.preview_tag(reference, listing)).buffered(TAGS_AT_ONCE);
        previews.collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    /// Returns the tags with a reserved form that a run would copy. For each other tag, the reason becomes the verdict.
    /// `others` are the previews of the tags without a reserved form.
    async fn select_reserved(
        &self,
        reserved: Vec<(Tag, ReservedForm)>,
        listing: &Listing,
        others: &[TagPreview],
        verdicts: &mut [Verdict],
    ) -> Vec<ManifestRef> {
        let source = self.pair.source.as_ref();
        let entry = &self.context.request.entry;
        let mut copied = Vec::new();
        for (tag, form) in reserved {
            let is_named = form.is_named_by(&entry.selection, &tag);
            let content = match query_source_digest(source, listing, &ManifestRef::Tag(tag.clone())).await {
                Ok(digest) => identify_content(self.batch, self.derived, &tag, &form, digest).await,
                Err(_) => ReservedContent::Ordinary,
            };
            let why = match content {
                ReservedContent::Ordinary => None,
                ReservedContent::List { .. } if !entry.referrers && is_named => None,
                ReservedContent::List { .. } if !entry.referrers => {
                    Some("a list of referrers, and the entry has `referrers: false`".to_owned())
                }
                ReservedContent::List { subject, .. } => {
                    let is_copied_with_subject = others.iter().any(|other| other.source_digest == Some(subject))
                        || !matches!(source.resolve(&subject.into()).await, Ok(None));
                    is_copied_with_subject
                        .then(|| format!("the referrers list of {subject}, which is copied with its subject"))
                }
                ReservedContent::Previous => Some("the tag keeps the previous digest of another tag".to_owned()),
            };
            match why {
                None => copied.push(ManifestRef::Tag(tag)),
                Some(why) => deselect(verdicts, &tag, why),
            }
        }
        copied
    }

    /// Previews one tag or digest at each target.
    async fn preview_tag(&self, reference: &ManifestRef, listing: &Listing) -> Vec<TagPreview> {
        let entry = &self.context.request.entry;
        let mut previews: Vec<TagPreview> =
            self.pair.targets.iter().map(|target| empty_preview(target.place(), entry, reference)).collect();
        let at_target = match target_reference(entry, reference) {
            Ok(at_target) => at_target,
            Err(failure) => {
                previews.iter_mut().for_each(|preview| preview.failure = Some(failure.clone()));
                return previews;
            }
        };
        let wanted = async {
            let digest = query_source_digest(self.pair.source.as_ref(), listing, reference).await;
            let digest = digest.map_err(|failure| (None, failure))?;
            let wanted = self.derived.derive(self.batch, digest).await;
            wanted.map(|wanted| (digest, wanted)).map_err(|error| (Some(digest), TagOutcome::failed(&error)))
        };
        let overwrite = overwrite_rule(entry, &at_target);
        let query = |target| query_target_digest(target, TagState::Unknown, &at_target, self.conflicts, overwrite);
        let answers = join_all(self.pair.targets.iter().map(|target| query(target.as_ref())));
        let (source_digest, wanted, answers) = match join(wanted, answers).await {
            (Ok((digest, wanted)), answers) => (digest, wanted, answers),
            (Err((source_digest, failure)), _) => {
                for preview in &mut previews {
                    preview.source_digest = source_digest;
                    preview.failure = Some(failure.clone());
                }
                return previews;
            }
        };
        for (preview, answer) in previews.iter_mut().zip(answers) {
            preview.source_digest = Some(source_digest);
            preview.digest = Some(wanted);
            match answer {
                Ok(present) => preview.action = Some(decide_action(&at_target, wanted, present, overwrite)),
                Err(failure) => preview.failure = Some(failure),
            }
        }
        self.rehearse(reference, &at_target, source_digest, &mut previews).await;
        previews
    }

    /// Rehearses the copy of a tag to each target that needs the copy, and adds the content of the copy to the
    /// previews.
    async fn rehearse(
        &self,
        reference: &ManifestRef,
        at_target: &ManifestRef,
        digest: Digest,
        previews: &mut [TagPreview],
    ) {
        let changes = previews.iter().enumerate().filter(|(_, preview)| preview.is_change());
        let targets: Vec<_> =
            changes.map(|(index, preview)| (index, preview.action.as_ref().and_then(previous_content))).collect();
        if targets.is_empty() || self.context.avoids_reads(self.pair.source.as_ref()) {
            return;
        }
        let tag = match at_target {
            ManifestRef::Tag(tag) => Some(tag.clone()),
            ManifestRef::Digest(_) => None,
        };
        let job = CopyJob { reference: reference.clone(), digest, tag, targets };
        for (index, result) in self.batch.copy(job).await {
            let preview = &mut previews[index];
            match result {
                Ok(arrival) => {
                    self.context.rehearsed.add_left_behind(&arrival);
                    preview.content = Some((&arrival).into());
                }
                Err(error) => {
                    preview.action = None;
                    preview.failure = Some(TagOutcome::failed(&error));
                }
            }
        }
    }
}

/// Changes the verdict of a tag to "not selected".
fn deselect(verdicts: &mut [Verdict], tag: &Tag, why: String) {
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.tag == *tag) {
        verdict.chosen = false;
        verdict.why = why.clone().into();
    }
}

/// Creates the preview of a tag or digest without any result.
fn empty_preview(target: &str, entry: &Entry, reference: &ManifestRef) -> TagPreview {
    let ReportedTag { tag, source_tag } = ReportedTag::new(entry, reference);
    TagPreview {
        target: target.to_owned(),
        tag,
        source_tag,
        source_digest: None,
        digest: None,
        action: None,
        failure: None,
        content: None,
    }
}
