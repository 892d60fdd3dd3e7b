//! State of the walk that reads a closure: the digests that it has reached, the items that it must read next, and its
//! limits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::Closure;
use crate::copy::companions::Companions;
use crate::copy::event::LeftBehind;
use crate::copy::manifest_cache::Node;
use crate::copy::{Batch, CopyError};
use crate::oci::{ContentKind, Descriptor, Digest, Tag};
use crate::store::Reservation;

/// Maximum nesting depth of indexes and referrers.
const MAX_DEPTH: usize = 8;

/// Maximum size of all manifests of one closure, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Maximum number of blobs in one closure.
const MAX_BLOBS: usize = 32 * 1024;

/// Item to read from the source, at some depth below the root.
pub(super) enum Ask {
    /// Permission to read these manifests, all or none: a part of a closure is useless.
    Reads(Vec<(usize, Digest)>),
    Manifest(Digest),
    /// Child of an index that is a manifest or a blob.
    Either(Descriptor),
    Companions(Arc<Node>),
}

/// Result of reading an item.
pub(super) enum Answer {
    Reads(Vec<(usize, Digest)>, Reservation),
    Manifest(Digest, Result<Arc<Node>, CopyError>),
    Blob(Descriptor),
    Companions(Digest, Arc<Companions>),
}

/// Digest that the walk has reached.
struct Reached {
    /// True if its referrers and signatures are wanted.
    with_companions: bool,
    /// True if the root reaches it.
    is_required: bool,
}

/// Walk over the source, in progress.
pub(super) struct ClosureWalk<'a> {
    place: &'a str,
    with_companions: bool,
    pub(super) to_ask: VecDeque<(usize, Ask)>,
    /// Manifests that the walk has just reached, to be requested together.
    just_met: Vec<(usize, Digest)>,
    /// Every digest that the walk has reached.
    met: HashMap<Digest, Reached>,
    /// Digests whose type does not show if they are manifests or blobs.
    untyped: HashMap<Digest, Descriptor>,
    untyped_blobs: HashMap<Digest, Descriptor>,
    nodes: HashMap<Digest, Arc<Node>>,
    /// Manifests that nothing requires and that cannot be read.
    lost: HashMap<Digest, CopyError>,
    left_behind: Vec<LeftBehind>,
    names: HashMap<Digest, String>,
    tags: HashMap<Digest, Vec<Tag>>,
    referrers: Vec<(Digest, Arc<Companions>)>,
    bytes: usize,
    blobs: HashSet<Digest>,
}

impl<'a> ClosureWalk<'a> {
    /// Starts the walk at `root`. Its referrers and signatures are read if `with_companions` is true.
    pub(super) fn new(batch: &'a Batch, root: Digest, with_companions: bool) -> Self {
        Self {
            place: batch.source.place(),
            with_companions: batch.rules.referrers,
            to_ask: VecDeque::new(),
            just_met: Vec::new(),
            met: HashMap::from([(root, Reached { with_companions, is_required: true })]),
            untyped: HashMap::new(),
            untyped_blobs: HashMap::new(),
            nodes: HashMap::new(),
            lost: HashMap::new(),
            left_behind: Vec::new(),
            names: HashMap::new(),
            tags: HashMap::new(),
            referrers: Vec::new(),
            bytes: 0,
            blobs: HashSet::new(),
        }
    }

    /// Adds a manifest that was read, and queues the reads that follow from it. Returns false if the manifest exceeds a
    /// limit and is not copied.
    pub(super) fn add_manifest(&mut self, node: &Arc<Node>, depth: usize) -> Result<bool, CopyError> {
        let bytes = self.bytes + node.manifest.bytes().len();
        let new: HashSet<Digest> =
            node.blobs().iter().map(|blob| blob.digest).filter(|digest| !self.blobs.contains(digest)).collect();
        if bytes > MAX_BYTES {
            let error =
                self.refuse(node.digest(), format!("with it the closure has over {MAX_BYTES} bytes of manifests"));
            return self.record_lost(node.digest(), error).map(|()| false);
        }
        if self.blobs.len() + new.len() > MAX_BLOBS {
            let error = self.refuse(node.digest(), format!("with it the closure has over {MAX_BLOBS} blobs"));
            return self.record_lost(node.digest(), error).map(|()| false);
        }
        self.bytes = bytes;
        self.blobs.extend(new);
        self.nodes.insert(node.digest(), node.clone());
        let Some(Reached { with_companions, is_required }) = self.met.get(&node.digest()) else { return Ok(true) };
        let (with_companions, is_required) = (*with_companions, *is_required);
        for child in node.view.manifests() {
            if child.kind() == ContentKind::Unknown {
                self.untyped.entry(child.digest).or_insert_with(|| child.clone());
            }
            self.visit(child.digest, depth + 1, self.with_companions, is_required)?;
        }
        self.queue_visited(depth);
        if with_companions {
            self.to_ask.push_back((depth, Ask::Companions(node.clone())));
        }
        Ok(true)
    }

    pub(super) fn add_blob(&mut self, blob: &Descriptor) -> Result<(), CopyError> {
        self.blobs.insert(blob.digest);
        self.untyped_blobs.insert(blob.digest, blob.clone());
        if self.blobs.len() > MAX_BLOBS {
            return Err(self.refuse(blob.digest, format!("with it the closure has over {MAX_BLOBS} blobs")));
        }
        Ok(())
    }

    /// Adds the referrers and signatures of a manifest.
    pub(super) fn add_companions(
        &mut self,
        of: Digest,
        companions: Arc<Companions>,
        depth: usize,
    ) -> Result<(), CopyError> {
        self.left_behind.extend(companions.left_behind.iter().cloned());
        for referrer in &companions.list.manifests {
            self.names.entry(referrer.digest).or_insert_with(|| LeftBehind::referrer(referrer.digest, of));
            self.visit(referrer.digest, depth + 1, self.with_companions, false)?;
        }
        for (tag, digest) in &companions.signatures {
            self.names.entry(*digest).or_insert_with(|| LeftBehind::signature(tag));
            self.tags.entry(*digest).or_default().push(tag.clone());
            self.visit(*digest, depth + 1, false, false)?;
        }
        self.queue_visited(depth);
        if !companions.list.manifests.is_empty() {
            self.referrers.push((of, companions));
        }
        Ok(())
    }

    /// Adds a manifest that something references. The manifest is queued for reading, but only once.
    pub(super) fn visit(
        &mut self,
        digest: Digest,
        depth: usize,
        with_companions: bool,
        is_required: bool,
    ) -> Result<(), CopyError> {
        let Some(met) = self.met.get_mut(&digest) else {
            self.met.insert(digest, Reached { with_companions, is_required });
            if depth > MAX_DEPTH {
                let error = self.too_deep(digest);
                return self.record_lost(digest, error);
            }
            self.just_met.push((depth, digest));
            return Ok(());
        };
        // The walk reached the manifest first as a signature, whose companions are not wanted, and now in another way.
        if with_companions && !met.with_companions {
            met.with_companions = true;
            if let Some(node) = self.nodes.get(&digest) {
                self.to_ask.push_back((depth, Ask::Companions(node.clone())));
            }
        }
        if is_required { self.require(digest) } else { Ok(()) }
    }

    /// Marks a manifest that the walk had reached in another way as required by the root, with everything that it
    /// lists.
    fn require(&mut self, digest: Digest) -> Result<(), CopyError> {
        let mut left = vec![digest];
        while let Some(digest) = left.pop() {
            let Some(met) = self.met.get_mut(&digest).filter(|met| !met.is_required) else { continue };
            met.is_required = true;
            if let Some(error) = self.lost.remove(&digest) {
                return Err(error);
            }
            let node = self.nodes.get(&digest);
            left.extend(node.iter().flat_map(|node| node.view.manifests()).map(|child| child.digest));
        }
        Ok(())
    }

    pub(super) fn is_required(&self, digest: &Digest) -> bool {
        self.met.get(digest).is_none_or(|met| met.is_required)
    }

    /// Records that a manifest cannot be read, if nothing requires it.
    pub(super) fn record_lost(&mut self, digest: Digest, error: CopyError) -> Result<(), CopyError> {
        if self.is_required(&digest) || error.ends_all() {
            return Err(error);
        }
        self.lost.insert(digest, error);
        Ok(())
    }

    pub(super) fn queue_visited(&mut self, depth: usize) {
        if !self.just_met.is_empty() {
            let met = std::mem::take(&mut self.just_met);
            self.to_ask.push_back((depth, Ask::Reads(met)));
        }
    }

    pub(super) fn queue_manifests(&mut self, manifests: Vec<(usize, Digest)>) {
        for (depth, digest) in manifests {
            let ask = match self.untyped.get(&digest) {
                Some(child) => Ask::Either(child.clone()),
                None => Ask::Manifest(digest),
            };
            self.to_ask.push_back((depth, ask));
        }
    }

    fn refuse(&self, digest: Digest, reason: String) -> CopyError {
        CopyError::Manifest { place: self.place.to_owned(), digest, reason }
    }

    fn too_deep(&self, digest: Digest) -> CopyError {
        CopyError::TooDeep { place: self.place.to_owned(), digest, depth: MAX_DEPTH }
    }

    pub(super) fn close(mut self, root: Arc<Node>) -> Result<Closure, CopyError> {
        self.drop_parents_of_lost();
        let lost = self.lost.iter().filter_map(|(digest, error)| {
            Some(LeftBehind { what: self.names.get(digest)?.clone(), reason: error.to_string() })
        });
        let mut left_behind: Vec<LeftBehind> = lost.chain(self.left_behind.iter().cloned()).collect();
        left_behind.sort();
        left_behind.dedup();
        let ranks = self.ranks(root.digest())?;
        Ok(Closure {
            ranks,
            root,
            tags: self.tags,
            referrers: self.referrers,
            required: self.met.iter().filter(|(_, met)| met.is_required).map(|(digest, _)| *digest).collect(),
            untyped_blobs: self.untyped_blobs,
            left_behind,
            lost: self.lost.into_keys().collect(),
            names: self.names,
            manifests: self.nodes.len() as u64,
            blobs: self.blobs.len() as u64,
        })
    }

    /// Drops manifests that list an unreadable one, since they cannot be written. None of the dropped manifests is
    /// required: everything that a required manifest lists is required too.
    fn drop_parents_of_lost(&mut self) {
        while !self.lost.is_empty() {
            let lists_lost = |node: &&Arc<Node>| {
                let lost = node.view.manifests().into_iter().find_map(|child| self.lost.get(&child.digest));
                lost.map(|error| (node.digest(), error.clone()))
            };
            let dropped: Vec<_> = self.nodes.values().filter_map(|node| lists_lost(&node)).collect();
            if dropped.is_empty() {
                return;
            }
            for (digest, error) in dropped {
                self.nodes.remove(&digest);
                self.lost.insert(digest, error);
            }
        }
    }

    /// Sorts the manifests so that everything an index lists comes before the index. A referrer may come before or
    /// after its subject, so referrers set no order and cause no cycles. The depth at which the walk found a manifest
    /// is not sufficient (one rank of an index may list the next), so the depth is checked here again.
    fn ranks(&self, root: Digest) -> Result<Vec<Vec<Arc<Node>>>, CopyError> {
        let lists_root = |node: &Arc<Node>| node.view.manifests().iter().any(|child| child.digest == root);
        let root_is_listed = self.nodes.values().any(lists_root);
        let mut left: Vec<&Arc<Node>> = self.nodes.values().collect();
        let (mut placed, mut ranks) = (HashSet::new(), Vec::new());
        while let Some(any) = left.first() {
            if ranks.len() > MAX_DEPTH {
                return Err(self.too_deep(any.digest()));
            }
            let is_there =
                |child: &&Descriptor| placed.contains(&child.digest) || self.untyped_blobs.contains_key(&child.digest);
            let stands = |node: &&Arc<Node>| node.view.manifests().iter().all(is_there);
            let (next, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(stands);
            placed.extend(next.iter().map(|node| node.digest()));
            ranks.push(next.into_iter().filter(|node| root_is_listed || node.digest() != root).cloned().collect());
            left = rest;
        }
        Ok(ranks)
    }
}
