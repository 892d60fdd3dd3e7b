//! Sync of one pair of repositories: queries of the source and the targets, then the sync of the selected tags.

use tokio::sync::{OnceCell, mpsc};
use tracing::Span;

use super::pair_facts::{PairFacts, query_pair_facts};
use super::repository_sync::{PairProgress, RepositorySync};
use crate::copy::event::Event;
use crate::copy::{Batch, ListedTags, Rules};
use crate::oci::{ManifestRef, Tag};
use crate::plan::{ForeignLayers, Selected};
use crate::store::Source;
use crate::sync::context::run::Run;
use crate::sync::journaling::copy_records::create_batch_context;
use crate::sync::journaling::derived_digests::DerivedDigests;
use crate::sync::referrers::reserved_tags::{SortedTags, sort_by_form};
use crate::sync::selection::pairs::Pair;

/// Syncs one pair of repositories and records an outcome for each selected tag at each target.
pub(crate) async fn sync_pair(run: &Run<'_>, pair: &Pair, events: mpsc::Sender<Event>) {
    let opened = match pair.open(&run.request.entry, &run.engine.endpoints) {
        Ok(opened) => opened,
        Err(error) => return run.report_problem(error.to_string()),
    };
    let Some(PairFacts { listing, selected, target_states, conflicts, checks }) =
        query_pair_facts(run, pair, &opened).await
    else {
        return;
    };
    let entry = &run.request.entry;
    let rules = Rules {
        platforms: entry.platforms.clone(),
        referrers: entry.referrers,
        foreign_layers: entry.foreign_layers == ForeignLayers::Copy,
    };
    let source_tags = listing.is_complete.then(|| ListedTags::read(listing.tags.keys()));
    let targets = opened.targets.iter().cloned().zip(target_states.iter().map(|state| state.contents)).collect();
    let copier = run.engine.copier.for_tenant(run.request.entry.name.as_str());
    let batch =
        Batch::new(&copier, opened.source.clone(), targets, rules, source_tags, create_batch_context(run, events));
    let derived = DerivedDigests::new(run.engine.journal.clone(), entry.platforms.as_deref());
    let sync = RepositorySync {
        run,
        span: Span::current(),
        pair: opened,
        listing,
        selected: selected.tags.iter().cloned().collect(),
        pins: selected.pins.clone(),
        conflicts,
        target_states,
        batch,
        derived,
        checks,
        copying: OnceCell::new(),
        progress: PairProgress::default(),
    };
    sync_selected(&sync, selected).await;
    run.record_doubts(sync.pair.source.place(), sync.batch.doubted_referrers());
    sync.record_observations().await;
}

/// Syncs all tags and digests that the entry selects.
async fn sync_selected(sync: &RepositorySync<'_>, selected: Selected) {
    let entry = &sync.run.request.entry;
    let SortedTags { ordinary, signatures, reserved, unwanted } =
        sort_by_form(selected.tags, &entry.selection, entry.referrers);
    if !unwanted.is_empty() {
        let (source, count) = (sync.pair.source.place(), unwanted.len());
        tracing::info!(source, count, "skipped tags of signatures: `referrers: false`");
    }
    let count = ordinary.len() + signatures.len() + selected.pins.len() + selected.digests.len();
    sync.run.report_tag_count(count * sync.pair.targets.len()).await;
    let digests = selected.digests.into_iter().map(ManifestRef::Digest);
    query_remaining_reads(sync.pair.source.as_ref(), ordinary.first()).await;
    let pins = selected.pins.into_keys();
    sync.sync_each(ordinary.into_iter().chain(pins).map(ManifestRef::Tag).chain(digests)).await;
    sync.sync_reserved_tags(reserved).await;
    // The run has copied most signatures together with their images.
    let remaining = signatures.into_iter().filter(|tag| !sync.batch.has_signed(tag));
    sync.sync_each(remaining.map(ManifestRef::Tag)).await;
}

/// If the source counts reads against a pull quota and the number of remaining reads is unknown, requests one tag with
/// HEAD. The response states the number, which limits how many tags the run syncs at the same time. A HEAD does not
/// count as a read.
async fn query_remaining_reads(source: &dyn Source, tag: Option<&Tag>) {
    if let Some(tag) = tag
        && source.counts_manifest_reads()
        && source.manifest_reads_left().is_none()
    {
        // The function ignores an error, because the sync of the tag reports the same error.
        let _ = source.resolve(&tag.clone().into()).await;
    }
}
