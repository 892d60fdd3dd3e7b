//! Facts about a pair of repositories (a source and its targets) that a run collects before the run syncs the tags: the
//! tags of the source, the tags that the entry selects, the state of each target, the conflicts with other entries, and
//! the earlier checks of referrers.

use futures_util::FutureExt as _;
use futures_util::future::{join_all, try_join4};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::oci::Tag;
use crate::plan::Selected;
use crate::store::Source;
use crate::sync::comparison::conflicts::{Conflicts, query_rival_claims};
use crate::sync::comparison::tag_naming::query_name_rivals;
use crate::sync::comparison::target_listing::{TargetState, query_target_state};
use crate::sync::context::run::Run;
use crate::sync::referrers::checks::ReferrerChecks;
use crate::sync::selection::listing::{Listing, list_tags, tag_names};
use crate::sync::selection::pairs::{OpenPair, Pair};

/// Facts about a pair of repositories that a run collects before the run syncs the tags.
pub(crate) struct PairFacts {
    pub(crate) listing: Listing,
    pub(crate) selected: Selected,
    /// State of each target, in the order of the pair's targets.
    pub(crate) target_states: Vec<TargetState>,
    pub(crate) conflicts: Conflicts,
    pub(crate) checks: ReferrerChecks,
}

/// Determines all facts concurrently. If the source cannot be listed or its selection is invalid, the function reports
/// the problem, cancels the requests in progress and returns `None`.
pub(crate) async fn query_pair_facts(run: &Run<'_>, pair: &Pair, opened: &OpenPair) -> Option<PairFacts> {
    let source = opened.source.as_ref();
    let listed = CancellationToken::new();
    let selected = async {
        let selected = select_tags(run, pair, source).await;
        listed.cancel();
        selected.ok_or(())
    };
    let states = opened.targets.iter().map(|target| {
        let span = tracing::info_span!("target", target = target.place());
        query_target_state(run, source, target.as_ref(), listed.cancelled()).instrument(span)
    });
    let states = join_all(states).map(Ok);
    let rivals = query_rival_claims(run.engine, run.request, pair).map(Ok);
    let checks = ReferrerChecks::load(run, source.place()).map(Ok);
    let ((listing, selected, others), target_states, rivals, checks) =
        try_join4(selected, states, rivals, checks).await.ok()?;
    let conflicts = rivals.conflicts_with(run.request, pair, &selected, &others);
    Some(PairFacts { listing, selected, target_states, conflicts, checks })
}

/// Returns the tags of the source, the tags that the entry selects, and a list of rivals. A rival is another tag of the
/// source that gets the same name at the target as a pushed tag. The list is empty if the run is not for pushed tags.
/// If the source cannot be listed or too few tags are selected, reports the problem and returns `None`.
async fn select_tags(run: &Run<'_>, pair: &Pair, source: &dyn Source) -> Option<(Listing, Selected, Vec<Tag>)> {
    let selection = &run.request.entry.selection;
    if let Some(only) = &run.request.only {
        let selected = only.select(source, &pair.source, selection).await;
        let (listing, selected) = selected.map_err(|error| run.report_problem(format!("source {error}"))).ok()?;
        let others = query_name_rivals(source, &run.request.entry, &selected).await;
        return Some((listing, selected, others));
    }
    let listing = match list_tags(source, selection).await {
        Ok(listing) => listing,
        Err(error) => {
            run.report_problem(format!("source {error}"));
            return None;
        }
    };
    listing.warn_of_skipped(source.place());
    let selected = selection.select(tag_names(&listing));
    if let Some(problem) = listing.untagged_error(source.place(), &selected) {
        run.report_problem(problem);
        return None;
    }
    run.add_coverage(&listing, &selected);
    // For a tree, `judge_coverage` checks `at_least` after all repositories have been listed.
    let is_tree = run.request.entry.source.is_tree();
    match if is_tree { Ok(selected) } else { selected.enough() } {
        Ok(mut selected) => {
            // Frees the memory of the verdicts, because a run does not report the verdicts. A list can have a million
            // tags.
            selected.verdicts = Vec::new();
            Some((listing, selected, Vec::new()))
        }
        Err(shortfall) => {
            run.report_problem(format!("source {}: {shortfall}", source.place()));
            None
        }
    }
}
