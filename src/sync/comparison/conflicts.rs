//! Tags of a target that other entries claim as well, if only the listings of those entries can show the claim.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::config::{Endpoint, Entry};
use crate::oci::{Digest, Tag};
use crate::plan::{Claim, Selected, find_conflicts};
use crate::sync::AccessContext;
use crate::sync::context::engine::{Engine, RunRequest};
use crate::sync::selection::listing::{list_tags, tag_names};
use crate::sync::selection::pairs::{Pair, source_for_target};

/// Tags that more than one entry claims, each with its target and the claiming entries.
pub(crate) type Conflicts = BTreeMap<(String, Tag), Vec<String>>;

/// Claims of other entries: the tags that they would write to the targets of a pair from other sources.
#[derive(Debug, Default)]
pub(crate) struct RivalClaims(Vec<Claim>);

/// Finds the claims of other entries.
///
/// If an entry cannot write to one of the targets, no request is sent for it. The sources of all other entries are
/// listed at each run. If such a listing fails, the claims of the entry's last run, from the journal, count.
pub(crate) async fn rival_claims(engine: &Engine, request: &RunRequest, pair: &Pair) -> RivalClaims {
    let (mut asked, mut known) = (Vec::new(), Vec::new());
    for target in &pair.targets {
        for entry in request.entries.iter().filter(|entry| entry.name != request.entry.name) {
            let Some(source) = source_for_target(entry, target) else { continue };
            if source.is_same_place(&pair.source) {
                known.extend(claims_on_same_source(&request.entry, entry, &source, target));
            } else {
                asked.push(query_claim(engine, entry, source, target));
            }
        }
    }
    let mut claims = join_all(asked).await;
    claims.extend(known);
    RivalClaims(claims)
}

async fn query_claim(engine: &Engine, entry: &Entry, source: Endpoint, target: &Endpoint) -> Claim {
    let tags = claimed_tags(engine, entry, &source).await;
    Claim { entry: entry.name.to_string(), source: source.to_string(), target: target.to_string(), tags }
}

/// Returns the claims of an entry with the same source: the tags that it pins, and the tags that it follows and `own`
/// pins. This needs no listing.
fn claims_on_same_source(own: &Entry, rival: &Entry, source: &Endpoint, target: &Endpoint) -> Vec<Claim> {
    let own_pins = own.selection.pins();
    let follows = own_pins.into_keys().filter(|tag| rival.selection.takes(tag)).collect();
    let claim = |source: String, tags: Vec<Tag>| Claim {
        entry: rival.name.to_string(),
        source,
        target: target.to_string(),
        tags,
    };
    let pins = rival.selection.pins().into_iter();
    let pinned = pins.map(|(tag, digest)| claim(pinned_source(source, digest), vec![tag]));
    std::iter::once(claim(source.to_string(), follows)).chain(pinned).collect()
}

/// Returns the source of a pinned tag. This source differs from the source of the tag without the pin.
fn pinned_source(source: &Endpoint, digest: Digest) -> String {
    format!("{source}@{digest}")
}

impl RivalClaims {
    /// Returns the tags, by target, that both this entry and a rival would write.
    pub(crate) fn conflicts_with(self, request: &RunRequest, pair: &Pair, own: &Selected) -> Conflicts {
        let Self(mut claims) = self;
        for target in pair.targets.iter().map(ToString::to_string) {
            if claims.iter().any(|claim| claim.target == target) {
                let entry = request.entry.name.to_string();
                let claim = |source: String, tags: Vec<Tag>| Claim {
                    entry: entry.clone(),
                    source,
                    target: target.clone(),
                    tags,
                };
                claims.push(claim(pair.source.to_string(), own.tags.clone()));
                let pins = own.pins.iter();
                claims.extend(pins.map(|(tag, digest)| claim(pinned_source(&pair.source, *digest), vec![tag.clone()])));
            }
        }
        find_conflicts(&claims)
    }
}

async fn claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Ok(opened) = engine.endpoints.source(source, AccessContext::at_source(entry)) else { return Vec::new() };
    match list_tags(opened.as_ref(), &entry.selection).await {
        Ok(listing) => {
            let selected = entry.selection.select(tag_names(&listing));
            selected.tags.into_iter().chain(selected.pins.into_keys()).collect()
        }
        Err(error) => {
            tracing::warn!(rival = %entry.name, %error, "cannot list the tags of another entry that writes here; \
             its last known tags count");
            last_claimed_tags(engine, entry, source).await
        }
    }
}

/// Returns the tags that the entry selected in its last run, from the journal.
async fn last_claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Some(journal) = &engine.journal else { return Vec::new() };
    let seen = journal.last_selection(entry.name.as_str()).await.unwrap_or_default();
    let place = source.to_string();
    seen.into_iter().filter(|seen| seen.source == place).map(|seen| seen.tag).collect()
}
