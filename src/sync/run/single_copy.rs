//! Manual copy of one manifest: `transship copy` with a tag or a digest. The command creates a temporary entry for the
//! copy, and runs this entry. The tag at the target can have a different name from the tag at the source.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join;
use tokio::sync::mpsc;

use crate::copy::event::{BlobCounts, Event, LeftBehind};
use crate::copy::{Batch, Contents, CopyError, CopyJob, Previous, Rules};
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::{Action, ForeignLayers, Overwrite};
use crate::store::{ErrorKind, Side, Source, Step, StoreError, Target};
use crate::sync::comparison::tag_comparison::{decide_action, target_failure};
use crate::sync::context::engine::{Engine, RunRequest};
use crate::sync::context::run::Run;
use crate::sync::journaling::copy_records::create_batch_context;
use crate::sync::journaling::derived_digests::DerivedDigests;
use crate::sync::journaling::evidence::record_evidence_and_outcome;
use crate::sync::referrers::checks::ReferrerChecks;
use crate::sync::run::preview::{EntryPreview, PairPreview, PlannedPulls, TagPreview};
use crate::sync::run::rehearsal::{RehearsedSource, RehearsedTarget};
use crate::sync::selection::near_tags::NearTags;
use crate::sync::selection::pairs::{OpenPair, Pair};
use crate::sync::{LeftBehindReport, TagOutcome, TagReport};

/// Request to copy one manifest from the source of an entry to the first target of the entry.
#[derive(Debug, Clone)]
pub struct SingleCopy {
    /// Reference of the manifest at the source.
    pub reference: ManifestRef,
    /// Tag to write at the target. `None` writes the manifest without a tag.
    pub tag: Option<Tag>,
    /// True to check for referrers even if the target already has the manifest and the last check is still valid.
    pub again: bool,
}

/// Compares the digests at the source and at the target, with one HEAD request to each. If the digests differ, copies
/// the manifest.
pub(crate) async fn copy_single(run: &Run<'_>, single: &SingleCopy, events: mpsc::Sender<Event>) {
    let entry = &run.request.entry;
    let pair = Pair { source: entry.source.clone(), targets: entry.targets.clone() };
    let opened = match pair.open(entry, &run.engine.endpoints) {
        Ok(opened) => opened,
        Err(error) => return run.report_problem(error.to_string()),
    };
    let OpenPair { source, targets } = opened;
    let Some(target) = targets.into_iter().next() else { return };
    run.report_tag_count(1).await;
    let rules = Rules {
        platforms: entry.platforms.clone(),
        referrers: entry.referrers,
        foreign_layers: entry.foreign_layers == ForeignLayers::Copy,
    };
    let copier = run.engine.copier.for_tenant(entry.name.as_str());
    let targets = vec![(target.clone(), Contents::Unknown)];
    let batch = Batch::new(&copier, source.clone(), targets, rules, None, create_batch_context(run, events));
    let checks = ReferrerChecks::load(run, source.place()).await;
    let copy = CopyInProgress { run, single, source: source.as_ref(), target: target.as_ref(), batch, checks };
    if let Err((digest, outcome)) = copy.compare_and_copy().await {
        copy.record_outcome(digest, outcome).await;
    }
    run.record_doubts(copy.source.place(), copy.batch.doubted_referrers());
    copy.checks.forget_old().await;
}

impl SingleCopy {
    /// Returns the reference that the copy writes at the target: the tag, or `digest` if the copy writes no tag.
    fn written_reference(&self, digest: Digest) -> ManifestRef {
        self.tag.clone().map_or(ManifestRef::Digest(digest), ManifestRef::Tag)
    }

    /// If the tag at the target has a different name from the tag at the source, returns the tag at the source.
    fn renamed_tag(&self) -> Option<Tag> {
        let ManifestRef::Tag(tag) = &self.reference else { return None };
        self.tag.as_ref().filter(|name| *name != tag).map(|_| tag.clone())
    }
}

/// Determines the action that a copy would take, and copies nothing. Cancel safe.
pub async fn preview_copy(engine: &Engine, request: &RunRequest, single: &SingleCopy) -> EntryPreview {
    let entry = &request.entry;
    let mut preview = EntryPreview {
        entry: entry.name.to_string(),
        pairs: Vec::new(),
        problems: Vec::new(),
        pulls: Vec::new(),
        left_behind: Vec::new(),
        warnings: Vec::new(),
    };
    let pair = Pair { source: entry.source.clone(), targets: entry.targets.clone() };
    match pair.open(entry, &engine.endpoints) {
        Ok(opened) => SinglePreview::new(engine, request, single, opened).complete(&mut preview).await,
        Err(error) => preview.problems.push(error.to_string()),
    }
    preview
}

/// Preview of a copy of one manifest.
struct SinglePreview<'a> {
    request: &'a RunRequest,
    single: &'a SingleCopy,
    source: Arc<RehearsedSource>,
    targets: Vec<Arc<dyn Target>>,
    batch: Arc<Batch>,
    derived: DerivedDigests,
}

impl<'a> SinglePreview<'a> {
    fn new(engine: &Engine, request: &'a RunRequest, single: &'a SingleCopy, opened: OpenPair) -> Self {
        let entry = &request.entry;
        let source = Arc::new(RehearsedSource::new(opened.source));
        let rehearsed = |target| Arc::new(RehearsedTarget(target)) as Arc<dyn Target>;
        let targets: Vec<Arc<dyn Target>> = opened.targets.into_iter().map(rehearsed).collect();
        let rules = Rules {
            platforms: entry.platforms.clone(),
            referrers: entry.referrers,
            foreign_layers: entry.foreign_layers == ForeignLayers::Copy,
        };
        // A preview transfers no blobs, so nothing receives the transfer events.
        let (events, _) = mpsc::channel(1);
        let batch_targets = targets.iter().map(|target| (target.clone(), Contents::Unknown)).collect();
        let batch = Batch::new(&engine.copier, source.clone(), batch_targets, rules, None, events);
        let derived = DerivedDigests::new(engine.journal.clone(), entry.platforms.as_deref());
        Self { request, single, source, targets, batch, derived }
    }

    /// Adds the previews of all targets, the pulls, and the items that the copy would leave behind.
    async fn complete(self, entry: &mut EntryPreview) {
        let found = query_source(self.source.as_ref(), &self.single.reference).await;
        let mut tags = Vec::new();
        for index in 0..self.targets.len() {
            tags.push(self.preview_target(index, &found, &mut entry.left_behind).await);
        }
        let unread = tags.iter().filter(|tag| tag.is_change() && tag.content.is_none()).count() as u64;
        let pulls = self.source.pulls() + if self.source.counts_manifest_reads() { unread } else { 0 };
        if pulls > 0 {
            let registry = self.source.scope().as_str().to_owned();
            entry.pulls.push(PlannedPulls { registry, pulls, is_minimum: unread > 0 });
        }
        entry.pairs.push(PairPreview {
            source: self.source.place().to_owned(),
            targets: self.targets.iter().map(|target| target.place().to_owned()).collect(),
            verdicts: Vec::new(),
            unusable: Vec::new(),
            tags,
        });
    }

    async fn preview_target(
        &self,
        index: usize,
        found: &Result<Digest, TagOutcome>,
        left_behind: &mut Vec<LeftBehindReport>,
    ) -> TagPreview {
        let Self { single, .. } = self;
        let mut preview = TagPreview {
            target: self.targets[index].place().to_owned(),
            tag: single.tag.clone(),
            source_tag: single.renamed_tag(),
            source_digest: found.as_ref().ok().copied(),
            digest: None,
            action: None,
            failure: found.as_ref().err().cloned(),
            content: None,
        };
        let Ok(digest) = *found else { return preview };
        match self.decide(index, digest).await {
            Ok((wanted, action)) => (preview.digest, preview.action) = (Some(wanted), Some(action)),
            Err(failure) => preview.failure = Some(failure),
        }
        // If the source registry has a pull limit, the preview reads no manifests, because reads use up the limit.
        if !preview.is_change() || self.source.counts_manifest_reads() {
            return preview;
        }
        let (reference, tag) = (single.reference.clone(), single.tag.clone());
        let job = CopyJob { reference, digest, tag, targets: vec![(index, None)] };
        for (_, result) in self.batch.copy(job).await {
            match result {
                Ok(arrival) => {
                    let report =
                        |left: &LeftBehind| LeftBehindReport { target: arrival.target.clone(), left: left.clone() };
                    left_behind.extend(arrival.left_behind.iter().map(report));
                    preview.content = Some((&arrival).into());
                }
                Err(error) => {
                    preview.action = None;
                    preview.failure = Some(TagOutcome::failed(&error));
                }
            }
        }
        preview
    }

    /// Returns the digest that the target should have, and the action at the target.
    async fn decide(&self, index: usize, digest: Digest) -> Result<(Digest, Action), TagOutcome> {
        let overwrite = self.request.entry.overwrite;
        let wanted = self.derived.derive(&self.batch, digest).await.map_err(|error| TagOutcome::failed(&error))?;
        let written = self.single.written_reference(wanted);
        let present = query_target(self.targets[index].as_ref(), &written, overwrite).await?;
        Ok((wanted, decide_action(&written, wanted, present, overwrite)))
    }
}

/// Returns the digest of a manifest at the source.
async fn query_source(source: &dyn Source, reference: &ManifestRef) -> Result<Digest, TagOutcome> {
    let found = source.resolve(reference).await.map_err(|error| TagOutcome::failed_at(Side::Source, &error))?;
    if let Some(descriptor) = found {
        return Ok(descriptor.digest);
    }
    let near = match reference {
        ManifestRef::Tag(tag) => NearTags::default().describe_near(source, tag).await,
        ManifestRef::Digest(_) => String::new(),
    };
    let message = format!("source {}: there is no {reference}{near}", source.place());
    let (side, step) = (Some(Side::Source), Some(Step::Resolve));
    Err(TagOutcome::Failed { side, step, subject: Some(reference.to_string()), message })
}

/// Returns the digest of a reference at the target, or `None` if the target does not have the reference. If the target
/// denies the read and the overwrite rule is `always` (`--force`), returns `None`, and the copy tries the push. Some
/// registries deny reads of a repository that does not exist, although a push creates the repository.
async fn query_target(
    target: &dyn Target,
    reference: &ManifestRef,
    overwrite: Overwrite,
) -> Result<Option<Digest>, TagOutcome> {
    match target.resolve(reference).await {
        Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
        Err(error) if error.kind == ErrorKind::Denied && overwrite == Overwrite::Always => {
            tracing::debug!(%error, "the target denies reads: the push is tried");
            Ok(None)
        }
        Err(error) => Err(target_failure(error, overwrite)),
    }
}

/// Manual copy in progress.
struct CopyInProgress<'a> {
    run: &'a Run<'a>,
    single: &'a SingleCopy,
    source: &'a dyn Source,
    target: &'a dyn Target,
    batch: std::sync::Arc<Batch>,
    checks: ReferrerChecks,
}

/// Outcome of a copy that failed, with the source's digest if the digest is known.
type FailedCopy = (Option<Digest>, TagOutcome);

impl CopyInProgress<'_> {
    /// Compares the digests at the source and at the target, and copies the manifest or its referrers if necessary.
    async fn compare_and_copy(&self) -> Result<(), FailedCopy> {
        let (found, present) = match &self.single.tag {
            Some(tag) => {
                let reference = tag.clone().into();
                let (found, present) = join(self.query_source(), self.query_target(&reference)).await;
                (found?, present)
            }
            // Without a tag for the target, the target is queried by the source's digest.
            None => {
                let found = self.query_source().await?;
                (found, self.query_target(&found.into()).await)
            }
        };
        let present = present.map_err(|outcome| (Some(found), outcome))?;
        let derived = DerivedDigests::new(self.run.engine.journal.clone(), self.run.request.entry.platforms.as_deref());
        let wanted =
            derived.derive(&self.batch, found).await.map_err(|error| (Some(found), TagOutcome::failed(&error)))?;
        let written = self.single.written_reference(wanted);
        match decide_action(&written, wanted, present, self.run.request.entry.overwrite) {
            Action::Unchanged => {}
            Action::Block { reason } => {
                self.record_outcome(Some(found), TagOutcome::Blocked { reason }).await;
                return Ok(());
            }
            Action::Copy | Action::Replace { .. } | Action::ReplaceKeeping { .. } => {
                return self.copy(found, present).await;
            }
        }
        if self.needs_referrers_check(found, wanted) {
            self.refresh_referrers(found).await?;
        }
        self.record_outcome(Some(found), TagOutcome::Unchanged).await;
        Ok(())
    }

    /// Returns the digest of the manifest at the source.
    async fn query_source(&self) -> Result<Digest, FailedCopy> {
        query_source(self.source, &self.single.reference).await.map_err(|outcome| (None, outcome))
    }

    /// Returns the digest of a reference at the target, or `None` if the target does not have the reference.
    async fn query_target(&self, reference: &ManifestRef) -> Result<Option<Digest>, TagOutcome> {
        query_target(self.target, reference, self.run.request.entry.overwrite).await
    }

    /// Returns true if the copy must query the source for new referrers of a manifest that the target already has. The
    /// reason is `again`, or that the journal has no valid check. Without a journal, `again` is the only reason.
    fn needs_referrers_check(&self, found: Digest, wanted: Digest) -> bool {
        let has_referrers = self.run.request.entry.referrers && found == wanted;
        has_referrers && (self.single.again || (self.checks.claim(found) && self.checks.last_check(&found).is_none()))
    }

    /// Copies the referrers of a manifest that the target already has.
    async fn refresh_referrers(&self, digest: Digest) -> Result<(), FailedCopy> {
        let job = self.build_job(digest, None, None);
        let mut copies = self.batch.refresh_each(job);
        while let Some((_, result)) = copies.next().await {
            let arrival = result.map_err(|error| (Some(digest), TagOutcome::failed(&error)))?;
            self.run.record_left_behind(&arrival);
            self.checks.record_arrival(&self.batch, &self.single.reference, &arrival).await;
        }
        Ok(())
    }

    /// Copies the manifest, and records the evidence and the outcome.
    async fn copy(&self, digest: Digest, present: Option<Digest>) -> Result<(), FailedCopy> {
        self.confirm_digest(digest).await?;
        let previous = present.filter(|_| self.single.tag.is_some()).map(|digest| Previous { digest, under: None });
        let job = self.build_job(digest, self.single.tag.clone(), previous);
        let mut copies = self.batch.copy_each(job);
        let arrival = match copies.next().await {
            Some((_, Ok(arrival))) => arrival,
            Some((_, Err(error))) => return Err((Some(digest), TagOutcome::failed(&error))),
            None => return Err((Some(digest), TagOutcome::failed(&CopyError::Interrupted))),
        };
        let outcome = match present {
            Some(previous) => TagOutcome::Replaced { previous, kept_as: None },
            None => TagOutcome::Copied,
        };
        self.checks.record_arrival(&self.batch, &self.single.reference, &arrival).await;
        record_evidence_and_outcome(self.run, &arrival, outcome).await;
        Ok(())
    }

    /// Checks the digest that a HEAD request stated. Reads the manifest by its tag, and compares the digest of the
    /// content with `stated`. Skips the check for a digest reference, for a source with mirrors, and for a source whose
    /// quota counts manifest reads.
    async fn confirm_digest(&self, stated: Digest) -> Result<(), FailedCopy> {
        let ManifestRef::Tag(tag) = &self.single.reference else { return Ok(()) };
        if self.source.is_mirrored() || self.source.counts_manifest_reads() {
            return Ok(());
        }
        let read = self.batch.read_tag(tag).await.map_err(|error| (Some(stated), TagOutcome::failed(&error)))?;
        if read == stated {
            return Ok(());
        }
        let detail = format!(
            "the source stated the digest {stated}, but the content has the digest {read}: \
             the tag was overwritten in the meantime, or the source is wrong"
        );
        let error = StoreError::new(self.source.place(), Step::ReadManifest, tag, ErrorKind::Corrupt, detail);
        Err((Some(stated), TagOutcome::failed_at(Side::Source, &error)))
    }

    /// Creates the copy job for the target.
    fn build_job(&self, digest: Digest, tag: Option<Tag>, previous: Option<Previous>) -> CopyJob {
        CopyJob { reference: self.single.reference.clone(), digest, tag, targets: vec![(0, previous)] }
    }

    /// Records the outcome of the copy.
    async fn record_outcome(&self, digest: Option<Digest>, outcome: TagOutcome) {
        let report = TagReport {
            source: self.source.place().to_owned(),
            target: self.target.place().to_owned(),
            tag: self.single.tag.clone(),
            source_tag: self.single.renamed_tag(),
            digest,
            source_digest: digest,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        self.run.record_outcome(report).await;
    }
}
