//! Manual copy of one manifest: `transship copy` with a tag or a digest. The copy is a run of an entry that is created
//! for this copy and is in no configuration. The tag at the target may differ from the tag at the source.

use futures_util::StreamExt as _;
use futures_util::future::join;
use tokio::sync::mpsc;

use crate::copy::event::{BlobCounts, Event};
use crate::copy::{Batch, Contents, CopyError, Order, Previous, Rules};
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::ForeignLayers;
use crate::store::{ErrorKind, Side, Source, Step, StoreError, Target};
use crate::sync::context::run::Run;
use crate::sync::journaling::copy_records::batch_surroundings;
use crate::sync::journaling::derived_digests::DerivedDigests;
use crate::sync::journaling::evidence::record_evidence_and_outcome;
use crate::sync::referrers::checks::ReferrerChecks;
use crate::sync::selection::near_tags::NearTags;
use crate::sync::selection::pairs::{OpenPair, Pair};
use crate::sync::{TagOutcome, TagReport};

/// Manifest to copy from the source of a run's entry to its first target.
#[derive(Debug, Clone)]
pub struct SingleCopy {
    /// Reference of the manifest at the source.
    pub reference: ManifestRef,
    /// Tag to write at the target; `None` to copy only by digest.
    pub tag: Option<Tag>,
    /// True to check for referrers even if the target already has the manifest and the last check is still valid.
    pub again: bool,
}

/// Compares the digests at the source and at the target, with one HEAD each, and copies the manifest if the digests
/// differ.
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
    let batch = Batch::new(&copier, source.clone(), targets, rules, None, batch_surroundings(run, events));
    let checks = ReferrerChecks::load(run, source.place()).await;
    let copy = CopyInProgress { run, single, source: source.as_ref(), target: target.as_ref(), batch, checks };
    if let Err((digest, outcome)) = copy.compare_and_copy().await {
        copy.record_outcome(digest, outcome).await;
    }
    run.record_doubts(copy.source.place(), copy.batch.doubted_referrers());
    copy.checks.forget_old().await;
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
                let (found, present) = join(self.query_source(), self.query_target(tag.clone().into())).await;
                (found?, present)
            }
            // Without a tag for the target, the target is queried by the source's digest.
            None => {
                let found = self.query_source().await?;
                (found, self.query_target(found.into()).await)
            }
        };
        let present = present.map_err(|outcome| (Some(found), outcome))?;
        let derived = DerivedDigests::new(self.run.engine.journal.clone(), self.run.request.entry.platforms.as_deref());
        let wanted =
            derived.derive(&self.batch, found).await.map_err(|error| (Some(found), TagOutcome::failed(&error)))?;
        if present != Some(wanted) {
            return self.copy(found, present).await;
        }
        if self.needs_referrers_check(found, wanted) {
            self.refresh_referrers(found).await?;
        }
        self.record_outcome(Some(found), TagOutcome::Unchanged).await;
        Ok(())
    }

    /// Returns the digest of the manifest at the source.
    async fn query_source(&self) -> Result<Digest, FailedCopy> {
        let found = self.source.resolve(&self.single.reference).await;
        let found = found.map_err(|error| (None, TagOutcome::failed_at(Side::Source, &error)))?;
        if let Some(descriptor) = found {
            return Ok(descriptor.digest);
        }
        let (reference, place) = (&self.single.reference, self.source.place());
        let near = match reference {
            ManifestRef::Tag(tag) => NearTags::default().describe_near(self.source, tag).await,
            ManifestRef::Digest(_) => String::new(),
        };
        let message = format!("source {place}: there is no {reference}{near}");
        let (side, step) = (Some(Side::Source), Some(Step::Resolve));
        Err((None, TagOutcome::Failed { side, step, subject: Some(reference.to_string()), message }))
    }

    /// Returns the digest of a reference at the target; `None` if the target does not have it.
    async fn query_target(&self, reference: ManifestRef) -> Result<Option<Digest>, TagOutcome> {
        match self.target.resolve(&reference).await {
            Ok(found) => Ok(found.map(|descriptor| descriptor.digest)),
            // Some registries deny reads of a repository that the push would create: the response to the push decides.
            Err(error) if error.kind == ErrorKind::Denied => {
                tracing::debug!(%error, "the target denies reads: the push is tried");
                Ok(None)
            }
            Err(error) => Err(TagOutcome::failed_at(Side::Target, &error)),
        }
    }

    /// Returns true if it is time to check for the referrers of a manifest that the target already has. The journal has
    /// the time of the last check. Without a journal, the check is done only on request.
    fn needs_referrers_check(&self, found: Digest, wanted: Digest) -> bool {
        let has_referrers = self.run.request.entry.referrers && found == wanted;
        has_referrers && (self.single.again || (self.checks.claim(found) && self.checks.last_check(&found).is_none()))
    }

    /// Copies the referrers of a manifest that the target already has.
    async fn refresh_referrers(&self, digest: Digest) -> Result<(), FailedCopy> {
        let order = self.build_order(digest, None, None);
        let mut copies = self.batch.refresh_each(order);
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
        let order = self.build_order(digest, self.single.tag.clone(), previous);
        let mut copies = self.batch.copy_each(order);
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

    /// Confirms the digest that a HEAD request stated: reads the manifest by the tag, and compares the digests. A run
    /// of an entry does the same.
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

    /// Creates the order for the target.
    fn build_order(&self, digest: Digest, tag: Option<Tag>, previous: Option<Previous>) -> Order {
        Order { reference: self.single.reference.clone(), digest, tag, targets: vec![(0, previous)] }
    }

    /// Returns the tag at the source if the copy gives it another name.
    fn renamed_tag(&self) -> Option<Tag> {
        let ManifestRef::Tag(tag) = &self.single.reference else { return None };
        self.single.tag.as_ref().filter(|name| *name != tag).map(|_| tag.clone())
    }

    /// Records the outcome of the copy.
    async fn record_outcome(&self, digest: Option<Digest>, outcome: TagOutcome) {
        let report = TagReport {
            source: self.source.place().to_owned(),
            target: self.target.place().to_owned(),
            tag: self.single.tag.clone(),
            source_tag: self.renamed_tag(),
            digest,
            source_digest: digest,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        self.run.record_outcome(report).await;
    }
}
