//! Preview of a run. The preview lists tags and sends HEAD requests, and reads a manifest only if that cannot be
//! avoided. It writes nothing to the targets.

use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

use crate::config::{Entry, Warning};
use crate::copy::event::LeftBehind;
use crate::copy::{Batch, Contents, Rules};
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::{Action, ReservedForm, Verdict};
use crate::sync::comparison::conflicts::{Conflicts, query_rival_claims};
use crate::sync::comparison::tag_comparison::{
    decide_action, overwrite_rule, query_source_digest, query_target_digest,
};
use crate::sync::comparison::tag_naming::{ReportedTag, target_reference};
use crate::sync::comparison::target_listing::TagState;
use crate::sync::journaling::derived_digests::DerivedDigests;
use crate::sync::referrers::reserved_tags::{ReservedContent, SortedTags, identify_content, sort_by_form};
use crate::sync::selection::coverage::Coverage;
use crate::sync::selection::listing::{Listing, list_tags, tag_names};
use crate::sync::selection::pairs::{OpenPair, Pair, list_pairs};
use crate::sync::{Engine, OpenError, RunRequest, TagOutcome};

/// Maximum number of repositories that are previewed at once.
const REPOSITORIES_AT_ONCE: usize = 8;

/// Maximum number of tags of one repository that are previewed at once.
const TAGS_AT_ONCE: usize = 32;

/// Preview of a run of one entry.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EntryPreview {
    /// The entry's name.
    pub entry: String,
    /// The previews of the entry's source repositories.
    pub pairs: Vec<PairPreview>,
    /// The failures that do not belong to a single tag.
    pub problems: Vec<String>,
    /// Warnings about selected items that do not exist, such as a pattern without a match. The warnings do not change
    /// the exit code.
    pub warnings: Vec<Warning>,
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
}

impl EntryPreview {
    /// Returns true if a run would change a target.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.actions().any(|action| !matches!(action, Action::Unchanged | Action::Block { .. }))
    }

    /// Returns true if a fact could not be determined, or if an action would fail.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        !self.problems.is_empty() || self.pairs.iter().flat_map(|pair| &pair.tags).any(|tag| tag.failure.is_some())
    }

    /// Returns the actions for all tags at all targets.
    fn actions(&self) -> impl Iterator<Item = &Action> {
        self.pairs.iter().flat_map(|pair| &pair.tags).filter_map(|tag| tag.action.as_ref())
    }
}

/// Determines the actions of a run without performing them. Cancel safe.
pub async fn preview(engine: &Engine, request: &RunRequest) -> EntryPreview {
    let coverage = &Mutex::new(Coverage::default());
    let observe = Box::new(|name: &str| coverage.lock().add_repository(&request.entry, name));
    let found: Vec<Result<PairPreview, Unpreviewed>> = list_pairs(&request.entry, &engine.endpoints, observe)
        .map(|pair| async move {
            let pair = pair.map_err(|error| Unpreviewed::new(&error))?;
            preview_pair(engine, request, &pair, coverage).await.map_err(Unpreviewed::Problem)
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
    EntryPreview { entry: entry.name.to_string(), pairs, problems, warnings }
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

/// Previews one pair of repositories. The error is a message for the user.
async fn preview_pair(
    engine: &Engine,
    request: &RunRequest,
    pair: &Pair,
    coverage: &Mutex<Coverage>,
) -> Result<PairPreview, String> {
    let opened = pair.open(&request.entry, &engine.endpoints).map_err(|error| error.to_string())?;
    let entry = &request.entry;
    let mut listing =
        list_tags(opened.source.as_ref(), &entry.selection).await.map_err(|error| format!("source {error}"))?;
    let selected = entry.selection.select(tag_names(&listing));
    coverage.lock().add(entry, &listing, &selected);
    let conflicts = query_rival_claims(engine, request, pair).await.conflicts_with(request, pair, &selected, &[]);
    // The receiver of transfer events is dropped: a preview has no transfers.
    let (events, _) = tokio::sync::mpsc::channel(1);
    let rules = Rules { platforms: entry.platforms.clone(), ..Rules::default() };
    let source = opened.source.clone();
    let targets = opened.targets.iter().map(|target| (target.clone(), Contents::Unknown)).collect();
    let batch = Batch::new(&engine.copier, source, targets, rules, None, events);
    let derived = DerivedDigests::new(engine.journal.clone(), entry.platforms.as_deref());
    // The pinned digest of a tag replaces the digest of the tag at the source.
    listing.tags.extend(selected.pins.iter().map(|(tag, digest)| (tag.clone(), Some(*digest))));
    let queries = PairQueries { request, pair: &opened, conflicts: &conflicts, derived: &derived, batch: &batch };
    let SortedTags { ordinary, signatures, reserved, unwanted } =
        sort_by_form(selected.tags.clone(), &entry.selection, entry.referrers);
    let mut verdicts = selected.verdicts.clone();
    unwanted
        .iter()
        .for_each(|tag| deselect(&mut verdicts, tag, "a signature, and the entry has `referrers: false`".to_owned()));
    let pins = selected.pins.keys().cloned();
    let references = ordinary.into_iter().chain(pins).chain(signatures).map(ManifestRef::Tag);
    let references: Vec<_> = references.chain(selected.digests.iter().copied().map(ManifestRef::Digest)).collect();
    let mut tags = queries.preview_each(&references, &listing).await;
    let reserved = queries.select_reserved(reserved, &listing, &tags, &mut verdicts).await;
    tags.extend(queries.preview_each(&reserved, &listing).await);
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

/// Context of the requests for single tags.
struct PairQueries<'a> {
    request: &'a RunRequest,
    pair: &'a OpenPair,
    conflicts: &'a Conflicts,
    derived: &'a DerivedDigests,
    batch: &'a Batch,
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
        let entry = &self.request.entry;
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
        let entry = &self.request.entry;
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
        previews
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
    }
}
