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
/// - If the entry has the same source as the pair, and both entries keep the names of tags, the two configurations show
///   its claims. No request is sent.
/// - Otherwise, the function lists the source of the entry. If the listing fails, the tags that the entry selected in
///   its last run are its claims, from the journal.
pub(crate) async fn query_rival_claims(engine: &Engine, request: &RunRequest, pair: &Pair) -> RivalClaims {
    let (mut queries, mut known) = (Vec::new(), Vec::new());
    for target in &pair.targets {
        for entry in request.entries.iter().filter(|entry| entry.name != request.entry.name) {
            let Some(source) = source_for_target(entry, target) else { continue };
            let keep_names = request.entry.names.keeps_every_name() && entry.names.keeps_every_name();
            if source.is_same_place(&pair.source) && keep_names {
                known.extend(find_claims_on_same_source(&request.entry, entry, &source, target));
            } else {
                queries.push(query_claims(engine, entry, source, target));
            }
        }
    }
    let mut claims: Vec<Claim> = join_all(queries).await.into_iter().flatten().collect();
    claims.extend(known);
    RivalClaims(claims)
}

/// Returns the claims of an entry that selects these tags and pins of a source. `target` is the target endpoint as
/// text.
fn claim_selected(entry: &Entry, source: &Endpoint, target: &str, selected: &Selected) -> Vec<Claim> {
    let claim = |source: String, tags: Vec<Tag>| Claim {
        entry: entry.name.to_string(),
        source,
        target: target.to_owned(),
        tags,
    };
    let (mut kept, mut claims) = (Vec::new(), Vec::new());
    for tag in &selected.tags {
        match entry.names.target_tag(tag) {
            Ok(name) if *name == *tag => kept.push(tag.clone()),
            // Two tags with one name at the target have different sources.
            Ok(name) => claims.push(claim(format!("{source}:{tag}"), vec![name.into_owned()])),
            Err(_) => {}
        }
    }
    for (tag, digest) in &selected.pins {
        let name = entry.names.target_tag(tag).map(|name| vec![name.into_owned()]);
        claims.push(claim(pinned_source(source, *digest), name.unwrap_or_default()));
    }
    claims.push(claim(source.to_string(), kept));
    claims
}

/// Returns the claims of `rival`, an entry with the same source as `own`. No listing is needed, because only two kinds
/// of tags can conflict: tags that `rival` pins, and tags that `own` pins and `rival` selects without a pin.
fn find_claims_on_same_source(own: &Entry, rival: &Entry, source: &Endpoint, target: &Endpoint) -> Vec<Claim> {
    let own_pins = own.selection.pins();
    let tags = own_pins.into_keys().filter(|tag| rival.selection.takes(tag)).collect();
    let selected = Selected { tags, pins: rival.selection.pins(), ..Selected::default() };
    claim_selected(rival, source, &target.to_string(), &selected)
}

/// Returns the text for the source of a pinned tag. The text differs from that of the source itself, so that a pinned
/// tag conflicts with the same tag without a pin.
fn pinned_source(source: &Endpoint, digest: Digest) -> String {
    format!("{source}@{digest}")
}

impl RivalClaims {
    /// Returns the tags that both the entry of `request` and another entry would write from different sources, and the
    /// names that the entry would give to several tags. `own` are the tags that the entry selects, and `others` further
    /// tags of the source that the entry would select in another run.
    pub(crate) fn conflicts_with(self, request: &RunRequest, pair: &Pair, own: &Selected, others: &[Tag]) -> Conflicts {
        let Self(mut claims) = self;
        let entry = &request.entry;
        let targets: Vec<String> = pair.targets.iter().map(ToString::to_string).collect();
        for target in &targets {
            if claims.iter().any(|claim| claim.target == *target) {
                claims.extend(claim_selected(entry, &pair.source, target, own));
            }
        }
        let mut conflicts = find_conflicts(&claims);
        let shared = entry.names.shared_names(own.tags.iter().chain(own.pins.keys()).chain(others));
        for target in targets {
            for name in shared.keys() {
                conflicts.entry((target.clone(), name.clone())).or_insert_with(|| vec![entry.name.to_string()]);
            }
        }
        conflicts
    }
}

/// Returns the claims of an entry at one of its sources.
async fn query_claims(engine: &Engine, entry: &Entry, source: Endpoint, target: &Endpoint) -> Vec<Claim> {
    let target = target.to_string();
    let Ok(opened) = engine.endpoints.source(&source, AccessContext::at_source(entry)) else { return Vec::new() };
    match list_tags(opened.as_ref(), &entry.selection).await {
        Ok(listing) => claim_selected(entry, &source, &target, &entry.selection.select(tag_names(&listing))),
        Err(error) => {
            tracing::warn!(rival = %entry.name, %error, "cannot list the tags of another entry that writes to \
             the same target; the tags of its last run are used");
            let tags = read_last_claimed_tags(engine, entry, &source).await;
            vec![Claim { entry: entry.name.to_string(), source: source.to_string(), target, tags }]
        }
    }
}

/// Returns the names at the target of the tags that an entry selected in its last run at one of its sources, from the
/// journal.
async fn read_last_claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Some(journal) = &engine.journal else { return Vec::new() };
    let selected = journal.last_selection(entry.name.as_str()).await.unwrap_or_default();
    let source = source.to_string();
    selected.into_iter().filter(|selected| selected.source == source).map(|selected| selected.tag).collect()
}
