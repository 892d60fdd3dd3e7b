//! Which tags of a target other entries claim as well, where only their listings can tell.

use futures_util::future::join_all;

use super::Behalf;
use super::compare::Contested;
use super::listing::{list, names};
use super::pairs::{Pair, source_of};
use super::run::{Engine, Errand};
use crate::config::{Endpoint, Entry};
use crate::oci::Tag;
use crate::plan::{Claim, contested};

/// What other entries would write to the targets of a pair from other sources.
#[derive(Debug, Default)]
pub(super) struct RivalClaims(Vec<Claim>);

/// Asks for that.
///
/// An entry that cannot write to one of the targets costs nothing. The listing of one that can is asked for at each
/// run; where it fails, what the journal saw it claim last counts.
pub(super) async fn rival_claims(engine: &Engine, errand: &Errand, pair: &Pair) -> RivalClaims {
    let mut asked = Vec::new();
    for target in &pair.targets {
        for entry in errand.entries.iter().filter(|entry| entry.name != errand.entry.name) {
            if let Some(source) = source_of(entry, target).filter(|source| !source.is_same_place(&pair.source)) {
                asked.push(claim(engine, entry, source, target));
            }
        }
    }
    RivalClaims(join_all(asked).await)
}

async fn claim(engine: &Engine, entry: &Entry, source: Endpoint, target: &Endpoint) -> Claim {
    let tags = claimed_tags(engine, entry, &source).await;
    Claim { entry: entry.name.to_string(), source: source.to_string(), target: target.to_string(), tags }
}

impl RivalClaims {
    /// The tags, by target place, that one of them and this entry would write.
    pub(super) fn contested_with(self, errand: &Errand, pair: &Pair, own: &[Tag]) -> Contested {
        let Self(mut claims) = self;
        for target in pair.targets.iter().map(ToString::to_string) {
            if claims.iter().any(|claim| claim.target == target) {
                let (entry, source) = (errand.entry.name.to_string(), pair.source.to_string());
                claims.push(Claim { entry, source, target, tags: own.to_vec() });
            }
        }
        contested(&claims)
    }
}

async fn claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Ok(opened) = engine.endpoints.source(source, Behalf::at_source(entry)) else { return Vec::new() };
    match list(opened.as_ref(), &entry.selection).await {
        Ok(listing) => entry.selection.select(names(&listing)).tags,
        Err(error) => {
            tracing::warn!(rival = %entry.name, %error, "another entry that writes here cannot be asked for its tags; what it had last time counts");
            last_claimed_tags(engine, entry, source).await
        }
    }
}

/// The tags that the entry had when it last ran, by the journal.
async fn last_claimed_tags(engine: &Engine, entry: &Entry, source: &Endpoint) -> Vec<Tag> {
    let Some(journal) = &engine.journal else { return Vec::new() };
    let seen = journal.last_selection(entry.name.as_str()).await.unwrap_or_default();
    let place = source.to_string();
    seen.into_iter().filter(|seen| seen.source == place).map(|seen| seen.tag).collect()
}
