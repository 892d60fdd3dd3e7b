//! Companions of a manifest, found at the source: its referrers and cosign's tags, which belong to the manifest
//! although it does not reference them. A companion that cannot be found or read is not copied, and is reported by
//! name. The manifest itself is copied nevertheless.

use futures_util::future::{join, join_all};

use super::event::LeftBehind;
use super::manifest_cache::Node;
use super::{Batch, CopyError};
use crate::oci::{ContentKind, Descriptor, Digest, Tag, referrers_tag, signature_tags};
use crate::store::{Listed, Referrers};

/// Companions of a manifest. The fields contain digests instead of parsed manifests: a source may claim that two
/// manifests refer to each other, and parsed manifests would then own each other.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// List of the manifest's referrers.
    pub(super) list: Referrers,
    /// Cosign's tags and their digests.
    pub(super) signatures: Vec<(Tag, Digest)>,
    /// Possible companions that could not be found or read.
    pub(super) left_behind: Vec<LeftBehind>,
}

/// Finds the companions of a manifest at the source.
///
/// # Errors
/// [`CopyError`] if the pull quota of the source is used up. The whole copy is then deferred.
pub(super) async fn find_companions(batch: &Batch, node: &Node) -> Result<Companions, CopyError> {
    let subject = node.digest();
    let tags = signature_tags(&subject).into_iter().filter(|tag| batch.look_up(tag) == Listed::Perhaps);
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

/// Returns the list without the entries that are wrong or cannot be read. Some registries keep other content under the
/// fallback tag, and a list may still contain a referrer that was deleted.
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

/// Verdict on a manifest that is listed as a referrer.
enum Verdict {
    Refers,
    /// The manifest is no referrer of this subject, for this reason.
    Other(&'static str),
    /// The source does not have the manifest: it was deleted, or a replica lags.
    Absent,
    /// The manifest cannot be read, for this reason.
    Unread(String),
}

async fn refers_to(batch: &Batch, listed: &Descriptor, subject: Digest) -> Result<Verdict, CopyError> {
    match batch.read_node(listed.digest).await {
        Ok(node) if node.view.subject == Some(subject) => Ok(Verdict::Refers),
        Ok(_) => Ok(Verdict::Other("its subject is another manifest")),
        Err(error) if error.ends_all() => Err(error),
        // A registry may report a manifest as missing because it does not serve the type of the manifest to every
        // client. So only a missing manifest of a known type counts as deleted.
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
