//! Closure of a digest, read from the source: every manifest that the digest reaches, the referrers and signatures of
//! those manifests, and the order in which all of them must be written.
//!
//! Manifests that the root reaches are required. Manifests that only refer to something are not required. If such a
//! manifest cannot be read or exceeds a limit, the copy does not bring it or anything that lists it, and reports each
//! by name.

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

use walk::{Answer, Ask, ClosureWalk};

/// Number of manifests and lists of one closure that are read at the same time. What has been read is counted before
/// more is requested.
const READS_AT_ONCE: usize = 24;

/// Manifests that must be at a target before the root's tag is, and the root.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) root: Arc<Node>,
    /// Manifests to write by digest before the root: all but the root, and the root as well if one of its referrers
    /// lists it. Each rank needs only manifests of the ranks before it.
    pub(super) ranks: Vec<Vec<Arc<Node>>>,
    /// Tags that belong to manifests of the closure: cosign's.
    pub(super) tags: HashMap<Digest, Vec<Tag>>,
    /// Lists of referrers, each with its subject, from which clients must be able to find them.
    pub(super) referrers: Vec<(Digest, Arc<Companions>)>,
    /// Manifests that the root reaches. The root is not written if one of them is missing.
    pub(super) required: HashSet<Digest>,
    /// Children of indexes that are blobs although their type does not show it.
    pub(super) untyped_blobs: HashMap<Digest, Descriptor>,
    /// Items that belong to the root and cannot be copied to any target.
    pub(super) left_behind: Vec<LeftBehind>,
    /// Manifests among the items that are not copied.
    pub(super) lost: HashSet<Digest>,
    /// Names of referrers and signatures, in words.
    pub(super) names: HashMap<Digest, String>,
    /// Number of distinct manifests in the closure.
    pub(super) manifests: u64,
    /// Number of distinct blobs in the closure.
    pub(super) blobs: u64,
}

impl Closure {
    /// Returns the children of `node` that are in the closure.
    pub(super) fn children<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<Node>> {
        let wanted: HashSet<Digest> = node.view.manifests().iter().map(|child| child.digest).collect();
        self.ranks.iter().flatten().filter(move |node| wanted.contains(&node.digest()))
    }

    /// Returns the blobs that `node` itself references and that must be at a target, each once.
    pub(super) fn blobs_for<'a>(&'a self, node: &'a Node) -> Vec<&'a Descriptor> {
        let untyped = node.view.manifests().into_iter().filter_map(|child| self.untyped_blobs.get(&child.digest));
        node.blobs().into_iter().chain(untyped).collect()
    }
}

/// Listener of the walk: the transfer of blobs begins while the walk continues.
pub(super) trait SurveyListener: Send + Sync {
    /// Reports a manifest, with the blobs that it references.
    fn on_manifest(&self, node: &Node, is_required: bool);
    /// Reports a blob that an index lists without naming it as one.
    fn on_blob(&self, blob: &Descriptor, is_required: bool);
}

/// Reads everything that `root` reaches. Each manifest is reported to `found` as soon as it is known, so that the
/// transfer of its blobs can begin while the walk continues. If the root is `derived`, its referrers are skipped: they
/// refer to another digest.
pub(super) async fn survey(
    batch: &Batch,
    root: Arc<Node>,
    derived: bool,
    found: &dyn SurveyListener,
) -> Result<Closure, CopyError> {
    let mut walk = ClosureWalk::new(batch, root.digest(), batch.rules.referrers && !derived);
    let mut reservations = Vec::new();
    let mut asked = FuturesUnordered::new();
    if walk.add_manifest(&root, 0)? {
        found.on_manifest(&root, true);
    }
    loop {
        while asked.len() < READS_AT_ONCE
            && let Some((depth, ask)) = walk.to_ask.pop_front()
        {
            asked.push(read_item(batch, depth, ask));
        }
        match asked.next().await.transpose()? {
            Some((_, Answer::Reads(manifests, reservation))) => {
                reservations.push(reservation);
                walk.queue_manifests(manifests);
            }
            Some((depth, Answer::Manifest(_, Ok(node)))) => {
                if walk.add_manifest(&node, depth)? {
                    found.on_manifest(&node, walk.is_required(&node.digest()));
                }
            }
            Some((_, Answer::Manifest(digest, Err(error)))) => walk.record_lost(digest, error)?,
            Some((_, Answer::Blob(blob))) => {
                walk.add_blob(&blob)?;
                found.on_blob(&blob, walk.is_required(&blob.digest));
            }
            Some((depth, Answer::Companions(of, companions))) => walk.add_companions(of, companions, depth)?,
            None => return walk.close(root),
        }
    }
}

fn read_item(batch: &Batch, depth: usize, ask: Ask) -> BoxFuture<'_, Result<(usize, Answer), CopyError>> {
    Box::pin(async move {
        Ok(match ask {
            Ask::Reads(manifests) => {
                let reservation = batch.reserve_reads(manifests.iter().map(|(_, digest)| *digest)).await?;
                (depth, Answer::Reads(manifests, reservation))
            }
            Ask::Manifest(digest) => (depth, Answer::Manifest(digest, batch.read_node(digest).await)),
            Ask::Either(child) => (depth, classify_child(batch, child).await?),
            Ask::Companions(node) => (depth, Answer::Companions(node.digest(), batch.companions(&node).await?)),
        })
    })
}

/// Determines if a child of an index is a manifest or a blob. If the content is no manifest at the source, the child is
/// a blob.
async fn classify_child(batch: &Batch, child: Descriptor) -> Result<Answer, CopyError> {
    let digest = child.digest;
    match batch.read_node(digest).await {
        Err(error) if error.ends_all() => Err(error),
        // The source returned the content as a manifest, but it is not a manifest that can be copied: an endpoint may
        // return any content that way.
        Err(error @ CopyError::Manifest { .. }) => match batch.source.blob(&child, 0).await {
            Ok(_) => Ok(Answer::Blob(child)),
            Err(_) => Ok(Answer::Manifest(digest, Err(error))),
        },
        Err(error) => {
            tracing::debug!(
                source = batch.source.place(), %digest, %error,
                "a child of an index is no manifest; it is read as a blob"
            );
            Ok(Answer::Blob(child))
        }
        Ok(node) => Ok(Answer::Manifest(digest, Ok(node))),
    }
}
