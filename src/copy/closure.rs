//! Closure of a digest: the manifest of the digest, all manifests below this manifest, and the referrers and signatures
//! of all these manifests. The closure also contains the order in which a copy writes the manifests.
//!
//! A manifest that the root lists, directly or through other indexes, is required. If the read of a required manifest
//! fails, the copy fails.
//!
//! A manifest that is only a referrer or a signature is optional. If an optional manifest cannot be read or exceeds a
//! limit, the copy skips the manifest and all indexes that list the manifest. The report names each skipped item.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::companions::Companions;
use super::event::LeftBehind;
use super::manifest_cache::Node;
use super::{Batch, CopyError};
use crate::oci::{Descriptor, Digest, Tag};

mod walk;

use walk::{ClosureWalk, ReadRequest, ReadResult};

/// Maximum number of manifests and lists of one closure that the walk reads at the same time.
const READS_AT_ONCE: usize = 24;

/// Root manifest, and all manifests that must be at a target before the root's tag is written.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) root: Arc<Node>,
    /// Manifests that a copy writes by digest before the root's tag, in ranks. Each manifest lists only manifests of
    /// earlier ranks. The root is in a rank only if another manifest lists the root.
    pub(super) ranks: Vec<Vec<Arc<Node>>>,
    /// Cosign's signature tags, by the digest of the signature's manifest.
    pub(super) tags: HashMap<Digest, Vec<Tag>>,
    /// Lists of referrers, each with the digest of its subject.
    pub(super) referrers: Vec<(Digest, Arc<Companions>)>,
    /// Required manifests, the root included. If a required manifest is missing, the copy does not write the root's
    /// tag.
    pub(super) required: HashSet<Digest>,
    /// Blobs that an index lists as children. Their media types are unknown, so the walk reads each child to detect a
    /// blob.
    pub(super) untyped_blobs: HashMap<Digest, Descriptor>,
    /// Referrers and signatures that cannot be copied to any target, for the report.
    pub(super) left_behind: Vec<LeftBehind>,
    /// Manifests that cannot be copied to any target.
    pub(super) lost: HashSet<Digest>,
    /// Names of referrers and signatures, for reports.
    pub(super) names: HashMap<Digest, String>,
    pub(super) manifests: u64,
    pub(super) blobs: u64,
}

impl Closure {
    /// Returns the children of `node` that are in the closure.
    pub(super) fn children<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<Node>> {
        let wanted: HashSet<Digest> = node.view.manifests().iter().map(|child| child.digest).collect();
        self.ranks.iter().flatten().filter(move |node| wanted.contains(&node.digest()))
    }

    /// Returns the blobs that `node` references directly, each once. Omits foreign layers that the rules do not copy.
    pub(super) fn blobs_for<'a>(&'a self, node: &'a Node) -> Vec<&'a Descriptor> {
        let untyped = node.view.manifests().into_iter().filter_map(|child| self.untyped_blobs.get(&child.digest));
        node.blobs().into_iter().chain(untyped).collect()
    }
}

/// Listener of the walk over a closure. The listener starts the transfer of blobs while the walk continues.
pub(super) trait SurveyListener: Send + Sync {
    /// Reports a manifest and its blobs.
    fn on_manifest(&self, node: &Node, is_required: bool);
    /// Reports a blob that is a child of an index.
    fn on_blob(&self, blob: &Descriptor, is_required: bool);
}

/// Reads the closure of `root` from the source. Reports each manifest to `listener` directly after the read of the
/// manifest. If `derived` is true, the root is an index for a subset of platforms. The walk then does not read
/// referrers of the root, because referrers refer to the source's index.
pub(super) async fn survey(
    batch: &Batch,
    root: Arc<Node>,
    derived: bool,
    listener: &dyn SurveyListener,
) -> Result<Closure, CopyError> {
    let mut walk = ClosureWalk::new(batch, root.digest(), batch.rules.referrers && !derived);
    let mut reservations = Vec::new();
    let mut reads = FuturesUnordered::new();
    if walk.add_manifest(&root, 0)? {
        listener.on_manifest(&root, true);
    }
    loop {
        while reads.len() < READS_AT_ONCE
            && let Some((depth, request)) = walk.queue.pop_front()
        {
            reads.push(read_item(batch, depth, request));
        }
        match reads.next().await.transpose()? {
            Some((_, ReadResult::Reads(manifests, reservation))) => {
                reservations.push(reservation);
                walk.queue_manifests(manifests);
            }
            Some((depth, ReadResult::Manifest(_, Ok(node)))) => {
                if walk.add_manifest(&node, depth)? {
                    listener.on_manifest(&node, walk.is_required(&node.digest()));
                }
            }
            Some((_, ReadResult::Manifest(digest, Err(error)))) => walk.record_lost(digest, error)?,
            Some((_, ReadResult::Blob(blob))) => {
                walk.add_blob(&blob)?;
                listener.on_blob(&blob, walk.is_required(&blob.digest));
            }
            Some((depth, ReadResult::Companions(subject, companions))) => {
                walk.add_companions(subject, companions, depth)?;
            }
            None => return walk.close(root),
        }
    }
}

fn read_item(
    batch: &Batch,
    depth: usize,
    request: ReadRequest,
) -> BoxFuture<'_, Result<(usize, ReadResult), CopyError>> {
    Box::pin(async move {
        Ok(match request {
            ReadRequest::Reads(manifests) => {
                let reservation = batch.reserve_reads(manifests.iter().map(|(_, digest)| *digest)).await?;
                (depth, ReadResult::Reads(manifests, reservation))
            }
            ReadRequest::Manifest(digest) => (depth, ReadResult::Manifest(digest, batch.read_node(digest).await)),
            ReadRequest::Either(child) => (depth, classify_child(batch, child).await?),
            ReadRequest::Companions(node) => {
                (depth, ReadResult::Companions(node.digest(), batch.companions(&node).await?))
            }
        })
    })
}

/// Determines whether a child of an index is a manifest or a blob. If the source does not return the child as a
/// manifest, the child is a blob.
async fn classify_child(batch: &Batch, child: Descriptor) -> Result<ReadResult, CopyError> {
    let digest = child.digest;
    match batch.read_node(digest).await {
        Err(error) if error.ends_all() => Err(error),
        // The source returned the content, but the content is not a valid manifest. Some endpoints return any content
        // in response to a request for a manifest.
        Err(error @ CopyError::Manifest { .. }) => match batch.source.blob(&child, 0).await {
            Ok(_) => Ok(ReadResult::Blob(child)),
            Err(_) => Ok(ReadResult::Manifest(digest, Err(error))),
        },
        Err(error) => {
            tracing::debug!(
                source = batch.source.place(), %digest, %error,
                "a child of an index is not a manifest: reading the child as a blob"
            );
            Ok(ReadResult::Blob(child))
        }
        Ok(node) => Ok(ReadResult::Manifest(digest, Ok(node))),
    }
}
