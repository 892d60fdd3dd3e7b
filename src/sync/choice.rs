//! Requests that precede the single tags of a pair of repositories: the content of both sides, and the selection of the
//! entry.

use futures_util::FutureExt as _;
use futures_util::future::{join_all, try_join4};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::compare::Conflicts;
use super::conflicts::rival_claims;
use super::listing::{Listing, list, names};
use super::pairs::{OpenPair, Pair};
use super::referrer_checks::Checks;
use super::run::Run;
use super::target_listing::{TargetState, look};
use crate::config::Endpoint;
use crate::plan::Selected;
use crate::store::Source;

/// Facts that are known before single tags are requested.
pub(crate) struct Chosen {
    pub(crate) listing: Listing,
    pub(crate) selected: Selected,
    /// The state of each target.
    pub(crate) there: Vec<TargetState>,
    pub(crate) conflicts: Conflicts,
    pub(crate) checks: Checks,
}

/// Obtains all of these facts at once. A reported problem ends the pair and cancels the requests in progress.
pub(crate) async fn choose(run: &Run<'_>, pair: &Pair, opened: &OpenPair) -> Option<Chosen> {
    let source = opened.source.as_ref();
    let listed = CancellationToken::new();
    let selected = async {
        let selected = select(run, pair, source).await;
        listed.cancel();
        selected.ok_or(())
    };
    let there = opened.targets.iter().map(|target| {
        let span = tracing::info_span!("target", target = target.place());
        look(run, source, target.as_ref(), listed.cancelled()).instrument(span)
    });
    let there = join_all(there).map(Ok);
    let rivals = rival_claims(run.engine, run.request, pair).map(Ok);
    let checks = Checks::recall(run, source.place()).map(Ok);
    let ((listing, selected), there, rivals, checks) = try_join4(selected, there, rivals, checks).await.ok()?;
    let conflicts = rivals.conflicts_with(run.request, pair, &selected);
    Some(Chosen { listing, selected, there, conflicts, checks })
}

/// Returns the source's tags and the tags that the entry selects.
async fn select(run: &Run<'_>, pair: &Pair, source: &dyn Source) -> Option<(Listing, Selected)> {
    let selection = &run.request.entry.selection;
    if let Some(only) = &run.request.only {
        let selected = only.select(source, &pair.source, selection).await;
        return selected.map_err(|error| run.problem(format!("source {error}"))).ok();
    }
    let listing = match list(source, selection).await {
        Ok(listing) => listing,
        Err(error) => {
            run.problem(format!("source {error}"));
            return None;
        }
    };
    listing.warn_of_skipped(source.place());
    let selected = selection.select(names(&listing));
    if let Some(problem) = listing.untagged(source.place(), &selected) {
        run.problem(problem);
        return None;
    }
    run.covers(&listing, &selected);
    // For a tree, `at_least` applies to all repositories together, once they have been listed.
    let is_tree = matches!(run.request.entry.source, Endpoint::Tree { .. });
    match if is_tree { Ok(selected) } else { selected.enough() } {
        Ok(mut selected) => {
            // A run reports only chosen tags, and a list may have a million others.
            selected.verdicts = Vec::new();
            Some((listing, selected))
        }
        Err(shortfall) => {
            run.problem(format!("source {}: {shortfall}", source.place()));
            None
        }
    }
}
