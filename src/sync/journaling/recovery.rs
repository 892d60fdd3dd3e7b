//! Recovery after an interrupted run. Before a run writes a tag, the run records an intent in the journal. After the
//! write, the run records the evidence, which closes the intent. If the run is interrupted between these steps, the
//! intent stays open. The recovery requests the tag of each open intent from the target. If the target has the intended
//! content, the recovery records the evidence. Otherwise the recovery deletes the intent.
//!
//! Each run recovers the intents at the targets of its own entry. At its start, the daemon recovers the intents at the
//! targets of all entries. The recovery of a target includes the intents of all entries, because the user may have
//! renamed or removed an entry.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use chrono::Utc;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::config::{Endpoint, Entry};
use crate::copy::event::ArrivalKind;
use crate::journal::{Intent, Journal, JournalError};
use crate::oci::{Digest, ManifestRef};
use crate::store::Target;
use crate::sync::context::engine::Engine;
use crate::sync::context::run::Run;
use crate::sync::selection::pairs::source_for_target;
use crate::sync::{AccessContext, OpenError};

/// Maximum number of targets that the recovery queries at the same time. The recovery requests one tag at a time from
/// each target.
const TARGETS_AT_ONCE: usize = 16;

const MAX_NAMED_TAGS: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// The interrupted run wrote the intended content.
    Written,
    /// The interrupted run did not write the intended content. The tag has its previous content, or does not exist.
    NotWritten,
    /// The tag has neither the intended content nor its previous content. Either the interrupted run did not write the
    /// tag, or a client replaced the content later.
    Unknown,
}

/// Target with open intents, and an entry that writes to the target.
struct OpenTarget<'a> {
    name: &'a str,
    endpoint: Endpoint,
    intents: &'a [Intent],
    writer: &'a Entry,
}

/// Checks the open intents of earlier runs at the targets of this run's entry, before this run writes any tag. An error
/// does not fail the run. If a check fails, the intent stays open until the next run.
pub(crate) async fn recover_evidence(run: &Run<'_>) {
    let (Some(journal), Some(_)) = (&run.engine.journal, run.id) else { return };
    let open = list_open_intents(journal).await;
    let (known, _) = group_by_target(&open, std::slice::from_ref(&run.request.entry));
    recover_targets(run.engine, journal, known).await;
}

/// Checks the open intents of earlier runs at all targets of these entries, and logs the open intents at other targets.
pub(crate) async fn recover_at_start(engine: Engine, entries: Arc<Vec<Arc<Entry>>>) {
    let Some(journal) = &engine.journal else { return };
    let open = list_open_intents(journal).await;
    let (known, orphaned) = group_by_target(&open, &entries);
    orphaned.into_iter().for_each(report_orphaned);
    recover_targets(&engine, journal, known).await;
}

/// Logs the open intents of earlier runs at targets to which none of these entries writes. No run of these entries
/// recovers these intents.
pub async fn report_orphaned_intents(journal: &Journal, entries: &[Arc<Entry>]) {
    let open = list_open_intents(journal).await;
    group_by_target(&open, entries).1.into_iter().for_each(report_orphaned);
}

async fn list_open_intents(journal: &Journal) -> Vec<Intent> {
    journal.open_intents().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot query the journal for open intents: the next run tries again");
        Vec::new()
    })
}

/// Groups the intents by target. Returns the targets to which one of the entries writes, and the intents at all other
/// targets.
fn group_by_target<'a>(open: &'a [Intent], entries: &'a [Arc<Entry>]) -> (Vec<OpenTarget<'a>>, Vec<&'a [Intent]>) {
    let (mut known, mut orphaned) = (Vec::new(), Vec::new());
    for intents in open.chunk_by(|a, b| a.arrival.target == b.arrival.target) {
        let name = intents[0].arrival.target.as_str();
        let found = name.parse::<Endpoint>().ok();
        match found.and_then(|endpoint| Some((find_writer(entries, &endpoint, intents)?, endpoint))) {
            Some((writer, endpoint)) => known.push(OpenTarget { name, endpoint, intents, writer }),
            None => orphaned.push(intents),
        }
    }
    (known, orphaned)
}

/// Returns an entry that writes to a target. Prefers an entry that recorded one of the intents.
fn find_writer<'a>(entries: &'a [Arc<Entry>], target: &Endpoint, intents: &[Intent]) -> Option<&'a Entry> {
    let is_author = |entry: &&Arc<Entry>| intents.iter().any(|intent| intent.entry == entry.name.as_str());
    let mut writers = entries.iter().filter(|entry| source_for_target(entry, target).is_some());
    let first = writers.clone().next()?;
    Some(writers.find(is_author).unwrap_or(first))
}

fn report_orphaned(intents: &[Intent]) {
    let Some(Intent { arrival, .. }) = intents.first() else { return };
    let (target, open) = (arrival.target.as_str(), intents.len());
    let entries: BTreeSet<&str> = intents.iter().map(|intent| intent.entry.as_str()).collect();
    let entries = entries.into_iter().collect::<Vec<_>>().join(", ");
    let mut tags: Vec<String> = intents.iter().take(MAX_NAMED_TAGS).map(intent_name).collect();
    if open > MAX_NAMED_TAGS {
        tags.push(format!("and {} more", open - MAX_NAMED_TAGS));
    }
    let tags = tags.join(", ");
    tracing::warn!(
        target,
        entries,
        open,
        tags,
        "tags may have been written right before a run was interrupted, and no entry writes to this target any more: \
         transship can complete their evidence only if an entry or `transship copy` writes to this target"
    );
}

fn intent_name(intent: &Intent) -> String {
    intent.arrival.tag.as_ref().map_or_else(|| intent.arrival.digest.to_string(), ToString::to_string)
}

async fn recover_targets(engine: &Engine, journal: &Journal, targets: Vec<OpenTarget<'_>>) {
    stream::iter(targets)
        .for_each_concurrent(TARGETS_AT_ONCE, |open| async move { recover_target(engine, journal, &open).await })
        .await;
}

async fn recover_target(engine: &Engine, journal: &Journal, open: &OpenTarget<'_>) {
    let OpenTarget { name, endpoint, intents, writer } = open;
    if engine.endpoints.archives(std::slice::from_ref(endpoint)).iter().any(|archive| archive.is_staging()) {
        // The unpublished files can contain content of the interrupted run, and another run can still publish this
        // content.
        return log_unrecovered(name, intents.len(), "another run is writing the archive");
    }
    let target = match engine.endpoints.published_target(endpoint, AccessContext::at_target(writer)) {
        Ok(target) => target,
        Err(error) => return log_unrecovered(name, intents.len(), &OpenError::to_string(&error)),
    };
    for (index, intent) in intents.iter().enumerate() {
        match recover_intent(journal, (endpoint, target.as_ref()), intent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot complete evidence: the intent stays open until the next run")
            }
            Err(problem) => return log_unrecovered(name, intents.len() - index, &problem),
        }
    }
}

fn log_unrecovered(target: &str, open: usize, problem: &str) {
    tracing::warn!(target, open, problem, "cannot check the tags of an interrupted run at a target");
}

/// Checks one intent, and closes or deletes the intent. The outer error is an error of the target, and the inner error
/// is an error of the journal. If several runs check the same intent, only the first run that closes the intent logs
/// the finding.
async fn recover_intent(
    journal: &Journal,
    (endpoint, target): (&Endpoint, &dyn Target),
    intent: &Intent,
) -> Result<Result<(), JournalError>, String> {
    let arrival = &intent.arrival;
    let reference = arrival.tag.clone().map_or(ManifestRef::Digest(arrival.digest), ManifestRef::Tag);
    let found = target.resolve(&reference).await.map_err(|error| error.to_string())?;
    let present = found.map(|descriptor| descriptor.digest);
    let finding = match present {
        Some(list) if arrival.kind == ArrivalKind::ReferrersList && present != arrival.previous => {
            judge_list(target, list, &arrival.listed).await?
        }
        _ => judge_digest(arrival.digest, arrival.previous, present),
    };
    // A later run can overwrite the tag before the recovery checks the intent. In this case, the later run recorded the
    // digest that the tag had before. If this previous digest is the intended digest, the interrupted run wrote the
    // tag. For an archive, the previous digest proves nothing, because the later run may have read unpublished content.
    let is_ambiguous = finding != Finding::Written && !matches!(endpoint, Endpoint::Archive(_));
    let was_found_later = is_ambiguous && journal.was_found_later(intent.id).await.unwrap_or_default();
    let finding = if was_found_later { Finding::Written } else { finding };
    let closed = match (finding, present.filter(|_| !was_found_later)) {
        (Finding::Written, found) => {
            journal.confirm_intent(intent.id, found.unwrap_or(arrival.digest), Utc::now()).await
        }
        _ => journal.drop_intent(intent.id).await,
    };
    Ok(closed.map(|is_first| {
        if is_first {
            log_finding(intent, finding, present);
        }
    }))
}

/// Determines whether the interrupted run wrote a list of referrers. If the list contains all intended referrers, the
/// list counts as written. The intent does not contain the digest of the list, because the run did not know the digest
/// before the write.
async fn judge_list(target: &dyn Target, list: Digest, intended: &[Digest]) -> Result<Finding, String> {
    let manifest = target.manifest(&list.into()).await.map_err(|error| error.to_string())?;
    let Ok(view) = manifest.view() else { return Ok(Finding::Unknown) };
    let listed: HashSet<Digest> = view.manifests().iter().map(|referrer| referrer.digest).collect();
    let has_all = intended.iter().all(|digest| listed.contains(digest));
    Ok(if has_all { Finding::Written } else { Finding::Unknown })
}

fn log_finding(intent: &Intent, finding: Finding, present: Option<Digest>) {
    let arrival = &intent.arrival;
    let (target, tag, digest) = (&arrival.target, arrival.tag.as_ref().map(tracing::field::display), arrival.digest);
    match finding {
        Finding::Written => {
            tracing::info!(target, tag, %digest, "completed the evidence of a tag of an interrupted run");
        }
        Finding::NotWritten => {
            tracing::info!(target, tag, %digest, "an interrupted run did not write the tag");
        }
        Finding::Unknown => {
            let present = present.map(tracing::field::display);
            tracing::warn!(target, tag, %digest, there = present,
                "cannot determine if an interrupted run wrote this digest: the tag now has another \
                 digest; no evidence is recorded");
        }
    }
}

/// Determines whether the interrupted run wrote the intended digest. `present` is the current digest of the tag.
fn judge_digest(intended: Digest, previous: Option<Digest>, present: Option<Digest>) -> Finding {
    if present == Some(intended) {
        Finding::Written
    } else if present.is_none() || present == previous {
        Finding::NotWritten
    } else {
        Finding::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_intended_digest_counts_as_written() {
        let [new, old, other] = ["new", "old", "other"].map(|name| Digest::of(name.as_bytes()));
        assert_eq!(judge_digest(new, Some(old), Some(new)), Finding::Written);
        assert_eq!(judge_digest(new, Some(old), Some(old)), Finding::NotWritten);
        assert_eq!(judge_digest(new, None, None), Finding::NotWritten);
        assert_eq!(judge_digest(new, Some(old), None), Finding::NotWritten);
        assert_eq!(judge_digest(new, None, Some(other)), Finding::Unknown);
    }

    /// Returns the arrival of the tag `v1` with this digest at a target.
    fn arrival(target: &str, digest: Digest) -> crate::copy::event::Arrival {
        crate::copy::event::Arrival {
            kind: ArrivalKind::Tag,
            listed: Vec::new(),
            source: "s.example/app".into(),
            source_reference: digest.into(),
            source_digest: digest,
            target: target.to_owned(),
            tag: Some("v1".parse().unwrap()),
            digest,
            previous: None,
            media_type: crate::oci::MediaType::new(crate::oci::MediaType::OCI_INDEX),
            manifests: 1,
            blobs: crate::copy::event::BlobCounts::default(),
            bytes: 1,
            source_identity: "anonymous".into(),
            target_identity: "file".into(),
            left_behind: Vec::new(),
            started: Utc::now(),
            ended: Utc::now(),
        }
    }

    #[tokio::test]
    async fn unpublished_tag_of_an_archive_becomes_no_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let place = format!("oci-archive:{}/x.tar", folder.path().display());
        let text = format!("version: 1\nsync: [{{name: app, source: s.example/app, target: \"{place}\"}}]\n");
        let config = crate::config::parse("sync.yaml", &text, &|_| Some("/tmp".into())).unwrap();
        let entries: Arc<Vec<Arc<Entry>>> = Arc::new(config.entries.into_iter().map(Arc::new).collect());
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let engine = Engine {
            copier: crate::copy::Copier::new(1 << 20),
            endpoints: Arc::default(),
            journal: Some(journal.clone()),
        };
        // An interrupted run has written the tag and has not published the archive.
        let target = engine.endpoints.target(&place.parse().unwrap(), AccessContext::default()).unwrap();
        let media_type = crate::oci::MediaType::new(crate::oci::MediaType::OCI_INDEX);
        let body = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[]}}"#);
        let manifest = crate::oci::Manifest::new(media_type, body.into());
        let started = journal.begin_run("app", crate::journal::Trigger::Manual, Utc::now()).await.unwrap();
        let crate::journal::RunStart::Started(run) = started else { panic!("{started:?}") };
        journal.record_intent(run, "app", &arrival(&place, manifest.digest())).await.unwrap();
        target.push_manifest(&manifest, Some(&"v1".parse().unwrap())).await.unwrap();
        let report = crate::sync::RunReport::new("app", Utc::now(), Utc::now(), crate::sync::RunOutcome::Interrupted);
        journal.end_run(run, report.to_journal(), Utc::now()).await.unwrap();
        let archive = engine.endpoints.archives(&[place.parse().unwrap()]).remove(0);
        archive.enter();

        recover_at_start(engine.clone(), entries.clone()).await;
        assert_eq!(journal.open_intents().await.unwrap().len(), 1, "another run may publish the tag");
        archive.leave().await;
        recover_at_start(engine, entries).await;
        assert_eq!(journal.open_intents().await.unwrap(), []);
        assert_eq!(journal.evidence(&crate::journal::EvidenceFilter::default()).await.unwrap(), []);
    }
}
