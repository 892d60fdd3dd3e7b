//! Completes the evidence that runs of an entry left open when they were cut off: asks each target once for each tag that was about to
//! be written there.

use chrono::Utc;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::Behalf;
use super::run::Run;
use crate::config::Endpoint;
use crate::journal::{COPY, Intent, Journal, JournalError};
use crate::oci::{Digest, ManifestRef};
use crate::store::Target;

/// How many targets are asked at once. At each of them one tag is asked for at a time, so that one that does not answer is left soon.
const AT_ONCE: usize = 16;

/// What is to become of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// The target has what was to be written.
    Arrived,
    /// The target has what it had before.
    NeverHappened,
    /// The target has something else: what was to be written never arrived, or was replaced since.
    Unknown,
}

/// Looks at what earlier runs of this entry left open, before this run moves any tag. Nothing that goes wrong here fails the run: what
/// cannot be looked at stays open for the next one.
pub(super) async fn recover_evidence(run: &Run<'_>) {
    let (Some(journal), Some(_)) = (&run.engine.journal, run.id) else { return };
    let entry = run.errand.entry.name.as_str();
    // A copy by hand asks no registry that it is not about.
    let targets = run.errand.entry.targets.iter().map(|target| Some(target.to_string()));
    let only: Vec<Option<String>> = if entry == COPY { targets.collect() } else { vec![None] };
    let mut open = Vec::new();
    for target in only {
        match journal.open_intents(entry, target.as_deref()).await {
            Ok(found) => open.extend(found),
            Err(error) => {
                tracing::warn!(%error, "the journal cannot tell what earlier runs left open; the next run asks again");
            }
        }
    }
    let same_target = |a: &Intent, b: &Intent| a.arrival.target == b.arrival.target;
    stream::iter(open.chunk_by(same_target))
        .for_each_concurrent(AT_ONCE, |intents| recover_at_target(run, journal, intents))
        .await;
}

async fn recover_at_target(run: &Run<'_>, journal: &Journal, intents: &[Intent]) {
    let Some(place) = intents.first().map(|intent| intent.arrival.target.as_str()) else { return };
    let opened = match place.parse::<Endpoint>() {
        Ok(endpoint) => {
            let behalf = Behalf::at_target(&run.errand.entry);
            run.engine.endpoints.target(&endpoint, behalf).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let target = match opened {
        Ok(target) => target,
        Err(problem) => return stay_open(place, intents.len(), &problem),
    };
    for (at, intent) in intents.iter().enumerate() {
        match recover_one(journal, target.as_ref(), intent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "evidence that a run left open stays open until the next run"),
            Err(problem) => return stay_open(place, intents.len() - at, &problem),
        }
    }
}

fn stay_open(target: &str, open: usize, problem: &str) {
    tracing::warn!(target, open, problem, "a target cannot be asked which tags a run wrote before it was cut off");
}

/// The inner error is the journal's, the outer one the target's.
async fn recover_one(
    journal: &Journal,
    target: &dyn Target,
    intent: &Intent,
) -> Result<Result<(), JournalError>, String> {
    let arrival = &intent.arrival;
    let reference = arrival.tag.clone().map_or(ManifestRef::Digest(arrival.digest), ManifestRef::Tag);
    let found = target.resolve(&reference).await.map_err(|error| error.to_string())?;
    let there = found.map(|descriptor| descriptor.digest);
    let (target, tag, digest) = (&arrival.target, arrival.tag.as_ref().map(tracing::field::display), arrival.digest);
    Ok(match judge(arrival.digest, arrival.previous, there) {
        Finding::Arrived => {
            tracing::info!(target, tag, %digest, "the evidence of a tag is completed whose run was cut off");
            journal.confirm_intent(intent.id, Utc::now()).await
        }
        Finding::NeverHappened => {
            tracing::info!(target, tag, %digest, "a tag was not written any more by the run that was cut off");
            journal.drop_intent(intent.id).await
        }
        Finding::Unknown => {
            let there = there.map(tracing::field::display);
            tracing::warn!(target, tag, %digest, there,
                "whether a run that was cut off wrote this digest cannot be told: the tag has another one now; no evidence is written");
            journal.drop_intent(intent.id).await
        }
    })
}

fn judge(intended: Digest, previous: Option<Digest>, there: Option<Digest>) -> Finding {
    if there == Some(intended) {
        Finding::Arrived
    } else if there.is_none() || there == previous {
        Finding::NeverHappened
    } else {
        Finding::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_intended_digest_at_the_target_is_an_arrival() {
        let [new, old, other] = ["new", "old", "other"].map(|name| Digest::of(name.as_bytes()));
        assert_eq!(judge(new, Some(old), Some(new)), Finding::Arrived);
        assert_eq!(judge(new, Some(old), Some(old)), Finding::NeverHappened);
        assert_eq!(judge(new, None, None), Finding::NeverHappened);
        assert_eq!(judge(new, Some(old), None), Finding::NeverHappened);
        assert_eq!(judge(new, None, Some(other)), Finding::Unknown);
    }
}
