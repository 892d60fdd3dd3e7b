//! Companions of a manifest at the source: its referrers and its signatures (cosign's tags). The manifest does not
//! reference its companions. If the read of a companion fails, the copy continues without the companion, and reports
//! the companion by name.

use futures_util::future::{join, join_all};

use super::event::LeftBehind;
use super::manifest_cache::Node;
use super::{Batch, CopyError};
use crate::oci::{ContentKind, Descriptor, Digest, Tag, referrers_tag, signature_tags};
use crate::store::{Listed, Referrers};

/// Companions of a manifest.
#[derive(Debug, Default)]
pub(super) struct Companions {
    pub(super) list: Referrers,
    /// Cosign's tags, each with its digest.
    pub(super) signatures: Vec<(Tag, Digest)>,
    /// Companions whose lookup or read failed.
    pub(super) left_behind: Vec<LeftBehind>,
}

/// Finds the companions of a manifest at the source.
///
/// # Errors
/// [`CopyError`] if the pull quota of the source is used up. The run then defers the whole copy.
pub(super) async fn find_companions(batch: &Batch, node: &Node) -> Result<Companions, CopyError> {
    let subject = node.digest();
    let tags = signature_tags(&subject).into_iter().filter(|tag| batch.look_up(tag) == Listed::Possible);
    let signatures = join_all(tags.map(|tag| find_signature(batch, tag)));
    let (listed, signatures) = join(find_referrers(batch, subject), signatures).await;
    let mut companions = listed?;
    for found in signatures {
        match found? {
            Ok(signature) => companions.signatures.extend(signature),
            Err(left) => companions.left_behind.push(left),
        }
    }
    Ok(companions)
}

async fn find_referrers(batch: &Batch, subject: Digest) -> Result<Companions, CopyError> {
    let fallback = batch.look_up(&referrers_tag(&subject));
    let list = batch.referrers(&subject, fallback).await?;
    select_referrers(batch, subject, list).await
}

/// Reads each manifest of a list of referrers. Returns only the manifests that exist and refer to `subject`. A list may
/// contain deleted manifests, and some registries keep other content under the fallback tag.
async fn select_referrers(batch: &Batch, subject: Digest, mut list: Referrers) -> Result<Companions, CopyError> {
    let _reads = batch.reserve_reads(list.manifests.iter().map(|listed| listed.digest)).await?;
    let verdicts = join_all(list.manifests.iter().map(|listed| refers_to(batch, listed, subject))).await;
    let verdicts = verdicts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (mut accepted, mut left_behind, mut is_incomplete) = (Vec::new(), Vec::new(), false);
    let log_skipped = |referrer: Digest, why: &str| {
        let source = batch.source.place();
        tracing::warn!(source, %subject, %referrer, why, "skipped an entry of the list of referrers");
    };
    for (listed, verdict) in list.manifests.into_iter().zip(verdicts) {
        match verdict {
            Verdict::Refers => accepted.push(listed),
            Verdict::Other(why) => log_skipped(listed.digest, why),
            Verdict::Absent => {
                is_incomplete = true;
                log_skipped(listed.digest, "the source lists the referrer but does not have it");
            }
            Verdict::Unread(reason) => {
                left_behind.push(LeftBehind { what: LeftBehind::referrer(listed.digest, subject), reason });
            }
        }
    }
    if is_incomplete {
        batch.record_incomplete_list(subject, accepted.iter().map(|listed| listed.digest).collect());
    }
    list.manifests = accepted;
    Ok(Companions { list, signatures: Vec::new(), left_behind })
}

enum Verdict {
    Refers,
    /// The manifest is not a referrer of this subject, for this reason.
    Other(&'static str),
    /// The source does not have the manifest. A client deleted the manifest, or a replica of the registry is not up to
    /// date.
    Absent,
    /// The read of the manifest failed, for this reason.
    Unread(String),
}

async fn refers_to(batch: &Batch, listed: &Descriptor, subject: Digest) -> Result<Verdict, CopyError> {
    match batch.read_node(listed.digest).await {
        Ok(node) if node.view.subject == Some(subject) => Ok(Verdict::Refers),
        Ok(_) => Ok(Verdict::Other("its subject is another manifest")),
        Err(error) if error.ends_all() => Err(error),
        // Some registries report a manifest of an unknown type as missing. So only a manifest of a known type counts as
        // absent.
        Err(error) if error.is_not_found() && listed.kind() == ContentKind::Manifest => Ok(Verdict::Absent),
        Err(error) => Ok(Verdict::Unread(error.to_string())),
    }
}

async fn find_signature(batch: &Batch, tag: Tag) -> Result<Result<Option<(Tag, Digest)>, LeftBehind>, CopyError> {
    match batch.source.resolve(&tag.clone().into()).await.map_err(CopyError::source) {
        Ok(Some(descriptor)) => {
            batch.record_found_tag(&tag);
            Ok(Ok(Some((tag, descriptor.digest))))
        }
        Ok(None) => Ok(Ok(None)),
        Err(error) if error.ends_all() => Err(error),
        Err(error) => Ok(Err(LeftBehind { what: LeftBehind::signature(&tag), reason: error.to_string() })),
    }
}
