//! Tag conflicts of an entry with other entries. To find them, a run also lists the sources of the other entries that
//! write to the same targets.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::config::{Endpoint, Entry};
use crate::oci::{Digest, Tag};
use crate::plan::{Claim, Selected, find_conflicts};
use crate::sync::AccessContext;
use crate::sync::context::engine::{Engine, RunRequest};
use crate::sync::selection::listing::{list_tags, tag_names};
use crate::sync::selection::pairs::{Pair, source_for_target};

/// Conflicting tags, each with its target and the names of the entries that claim the tag.
pub(crate) type Conflicts = BTreeMap<(String, Tag), Vec<String>>;

/// Claims of other entries: the tags that these entries would write to the targets of a pair of repositories.
#[derive(Debug, Default)]
pub(crate) struct RivalClaims(Vec<Claim>);

/// Returns the claims of all other entries on the targets of a pair of repositories. For each other entry and target:
///
/// - If the entry does not write to the target, it has no claim.
/// - If the entry has the same source as the pair, the two configurations show its claims. No request is sent.
/// - If the entry has another source, the function lists that source. If the listing fails, the tags that the entry
///   selected in its last run are its claims, from the journal.
pub(crate) async fn query_rival_claims(engine: &Engine, request: &RunRequest, pair: &Pair) -> RivalClaims {
    let (mut queries, mut known) = (Vec::new(), Vec::new());
    for target in &pair.targets {
        for entry in request.entries.iter().filter(|entry| entry.name != request.entry.name) {
            let Some(source) = source_for_target(entry, target) else { continue };
            if source.is_same_place(&pair.source) {
                known.extend(find_claims_on_same_source(&request.entry, entry, &source, target));
            } else {
                queries.push(query_claim(engine, entry, source, target));
            }
        }
    }
    let mut claims = join_all(queries).await;
    claims.extend(known);
    RivalClaims(claims)
}

async fn query_claim(engine: &Engine, entry: &Entry, source: Endpoint, target: &Endpoint) -> Claim {
    let tags = query_claimed_tags(engine, entry, &source).await;
    Claim { entry: entry.name.to_string(), source: source.to_string(), target: target.to_string(), tags }
}

/// Returns the claims of `rival`, an entry with the same source as `own`. No listing is needed, because only two kinds
/// of tags can conflict: tags that `rival` pins, and tags that `own` pins and `rival` selects without a pin.
fn find_claims_on_same_source(own: &Entry, rival: &Entry, source: &Endpoint, target: &Endpoint) -> Vec<Claim> {
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

/// Returns the text for the source of a pinned tag. The text differs from that of the source itself, so that a pinned
/// tag conflicts with the same tag without a pin.
fn pinned_source(source: &Endpoint, digest: Digest) -> String {
    format!("{source}@{digest}")
}

impl RivalClaims {
    /// Returns the tags that both the entry of `request` and another entry would write from different sources. `own`
    /// are the tags that the entry selects.
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

/// Returns the tags that an entry selects at one of its sources.
async fn query_claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Ok(opened) = engine.endpoints.source(source, AccessContext::at_source(entry)) else { return Vec::new() };
    match list_tags(opened.as_ref(), &entry.selection).await {
        Ok(listing) => {
            let selected = entry.selection.select(tag_names(&listing));
            selected.tags.into_iter().chain(selected.pins.into_keys()).collect()
        }
        Err(error) => {
            tracing::warn!(rival = %entry.name, %error, "cannot list the tags of another entry that writes to \
             the same target; the tags of its last run are used");
            read_last_claimed_tags(engine, entry, source).await
        }
    }
}

/// Returns the tags that an entry selected in its last run at one of its sources, from the journal.
async fn read_last_claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Some(journal) = &engine.journal else { return Vec::new() };
    let selected = journal.last_selection(entry.name.as_str()).await.unwrap_or_default();
    let source = source.to_string();
    selected.into_iter().filter(|selected| selected.source == source).map(|selected| selected.tag).collect()
}
