//! State of the walk that reads a closure: the digests that the walk has reached, the items to read next, and the
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

/// Item to read from the source.
pub(super) enum ReadRequest {
    /// Reservation of pull quota for the reads of these manifests. Each manifest has its depth below the root.
    Reads(Vec<(usize, Digest)>),
    Manifest(Digest),
    /// Child of an index that may be a manifest or a blob, because its media type is unknown.
    Either(Descriptor),
    Companions(Arc<Node>),
}

pub(super) enum ReadResult {
    Reads(Vec<(usize, Digest)>, Reservation),
    Manifest(Digest, Result<Arc<Node>, CopyError>),
    Blob(Descriptor),
    Companions(Digest, Arc<Companions>),
}

/// State of a manifest that the walk has reached.
struct ReachedManifest {
    /// True if the walk also reads the referrers and signatures of the manifest.
    with_companions: bool,
    /// True if the copy fails without the manifest.
    is_required: bool,
}

/// Walk in progress over the closure of one digest.
pub(super) struct ClosureWalk<'a> {
    place: &'a str,
    with_companions: bool,
    pub(super) queue: VecDeque<(usize, ReadRequest)>,
    /// Manifests that the current step has reached for the first time, each with its depth below the root. One
    /// reservation of pull quota covers the reads of all these manifests.
    new_manifests: Vec<(usize, Digest)>,
    reached: HashMap<Digest, ReachedManifest>,
    /// Children of indexes with unknown media types. Each child may be a manifest or a blob.
    untyped: HashMap<Digest, Descriptor>,
    untyped_blobs: HashMap<Digest, Descriptor>,
    nodes: HashMap<Digest, Arc<Node>>,
    /// Optional manifests that cannot be copied, each with the reason.
    lost: HashMap<Digest, CopyError>,
    left_behind: Vec<LeftBehind>,
    names: HashMap<Digest, String>,
    tags: HashMap<Digest, Vec<Tag>>,
    referrers: Vec<(Digest, Arc<Companions>)>,
    bytes: usize,
    blobs: HashSet<Digest>,
}

impl<'a> ClosureWalk<'a> {
    /// Starts the walk at `root`. If `with_companions` is true, the walk reads the referrers and signatures of the
    /// root.
    pub(super) fn new(batch: &'a Batch, root: Digest, with_companions: bool) -> Self {
        Self {
            place: batch.source.place(),
            with_companions: batch.rules.referrers,
            queue: VecDeque::new(),
            new_manifests: Vec::new(),
            reached: HashMap::from([(root, ReachedManifest { with_companions, is_required: true })]),
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

    /// Adds a manifest that the walk has read, and queues the reads of its children and companions. If the manifest is
    /// optional and exceeds a limit, returns false, and the walk skips the manifest.
    pub(super) fn add_manifest(&mut self, node: &Arc<Node>, depth: usize) -> Result<bool, CopyError> {
        let bytes = self.bytes + node.manifest.bytes().len();
        let new: HashSet<Digest> =
            node.blobs().iter().map(|blob| blob.digest).filter(|digest| !self.blobs.contains(digest)).collect();
        if bytes > MAX_BYTES {
            let error = self.refuse(node.digest(), format!("the closure has more than {MAX_BYTES} bytes of manifests"));
            return self.record_lost(node.digest(), error).map(|()| false);
        }
        if self.blobs.len() + new.len() > MAX_BLOBS {
            let error = self.refuse(node.digest(), format!("the closure has more than {MAX_BLOBS} blobs"));
            return self.record_lost(node.digest(), error).map(|()| false);
        }
        self.bytes = bytes;
        self.blobs.extend(new);
        self.nodes.insert(node.digest(), node.clone());
        let Some(ReachedManifest { with_companions, is_required }) = self.reached.get(&node.digest()) else {
            return Ok(true);
        };
        let (with_companions, is_required) = (*with_companions, *is_required);
        for child in node.view.manifests() {
            if child.kind() == ContentKind::Unknown {
                self.untyped.entry(child.digest).or_insert_with(|| child.clone());
            }
            self.visit(child.digest, depth + 1, self.with_companions, is_required)?;
        }
        self.queue_visited(depth);
        if with_companions {
            self.queue.push_back((depth, ReadRequest::Companions(node.clone())));
        }
        Ok(true)
    }

    pub(super) fn add_blob(&mut self, blob: &Descriptor) -> Result<(), CopyError> {
        self.blobs.insert(blob.digest);
        self.untyped_blobs.insert(blob.digest, blob.clone());
        if self.blobs.len() > MAX_BLOBS {
            return Err(self.refuse(blob.digest, format!("the closure has more than {MAX_BLOBS} blobs")));
        }
        Ok(())
    }

    pub(super) fn add_companions(
        &mut self,
        subject: Digest,
        companions: Arc<Companions>,
        depth: usize,
    ) -> Result<(), CopyError> {
        self.left_behind.extend(companions.left_behind.iter().cloned());
        for referrer in &companions.list.manifests {
            self.names.entry(referrer.digest).or_insert_with(|| LeftBehind::referrer(referrer.digest, subject));
            self.visit(referrer.digest, depth + 1, self.with_companions, false)?;
        }
        for (tag, digest) in &companions.signatures {
            self.names.entry(*digest).or_insert_with(|| LeftBehind::signature(tag));
            self.tags.entry(*digest).or_default().push(tag.clone());
            self.visit(*digest, depth + 1, false, false)?;
        }
        self.queue_visited(depth);
        if !companions.list.manifests.is_empty() {
            self.referrers.push((subject, companions));
        }
        Ok(())
    }

    /// Records a reference to a manifest. At the first reference, queues the read of the manifest.
    pub(super) fn visit(
        &mut self,
        digest: Digest,
        depth: usize,
        with_companions: bool,
        is_required: bool,
    ) -> Result<(), CopyError> {
        let Some(reached) = self.reached.get_mut(&digest) else {
            self.reached.insert(digest, ReachedManifest { with_companions, is_required });
            if depth > MAX_DEPTH {
                let error = self.too_deep(digest);
                return self.record_lost(digest, error);
            }
            self.new_manifests.push((depth, digest));
            return Ok(());
        };
        // The walk first reached the manifest as a signature, and did not read its companions. Now the walk has reached
        // the manifest as a child or a referrer, so the walk reads the companions.
        if with_companions && !reached.with_companions {
            reached.with_companions = true;
            if let Some(node) = self.nodes.get(&digest) {
                self.queue.push_back((depth, ReadRequest::Companions(node.clone())));
            }
        }
        if is_required { self.require(digest) } else { Ok(()) }
    }

    /// Marks an optional manifest and all manifests below it as required. Fails if one of these manifests cannot be
    /// copied.
    fn require(&mut self, digest: Digest) -> Result<(), CopyError> {
        let mut to_require = vec![digest];
        while let Some(digest) = to_require.pop() {
            let Some(reached) = self.reached.get_mut(&digest).filter(|reached| !reached.is_required) else { continue };
            reached.is_required = true;
            if let Some(error) = self.lost.remove(&digest) {
                return Err(error);
            }
            let node = self.nodes.get(&digest);
            to_require.extend(node.iter().flat_map(|node| node.view.manifests()).map(|child| child.digest));
        }
        Ok(())
    }

    pub(super) fn is_required(&self, digest: &Digest) -> bool {
        self.reached.get(digest).is_none_or(|reached| reached.is_required)
    }

    /// Records that an optional manifest cannot be copied. Returns the error if the manifest is required, or if the
    /// error ends the whole copy.
    pub(super) fn record_lost(&mut self, digest: Digest, error: CopyError) -> Result<(), CopyError> {
        if self.is_required(&digest) || error.ends_all() {
            return Err(error);
        }
        self.lost.insert(digest, error);
        Ok(())
    }

    pub(super) fn queue_visited(&mut self, depth: usize) {
        if !self.new_manifests.is_empty() {
            let reached = std::mem::take(&mut self.new_manifests);
            self.queue.push_back((depth, ReadRequest::Reads(reached)));
        }
    }

    pub(super) fn queue_manifests(&mut self, manifests: Vec<(usize, Digest)>) {
        for (depth, digest) in manifests {
            let request = match self.untyped.get(&digest) {
                Some(child) => ReadRequest::Either(child.clone()),
                None => ReadRequest::Manifest(digest),
            };
            self.queue.push_back((depth, request));
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
            required: self
                .reached
                .iter()
                .filter(|(_, reached)| reached.is_required)
                .map(|(digest, _)| *digest)
                .collect(),
            untyped_blobs: self.untyped_blobs,
            left_behind,
            lost: self.lost.into_keys().collect(),
            names: self.names,
            manifests: self.nodes.len() as u64,
            blobs: self.blobs.len() as u64,
        })
    }

    /// Drops the manifests that list a lost manifest, because a target would reject these manifests. All dropped
    /// manifests are optional, because all children of a required manifest are required.
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

    /// Sorts the manifests into ranks. The children of an index are in earlier ranks than the index. A referrer may be
    /// in an earlier or a later rank than its subject.
    ///
    /// # Errors
    /// [`CopyError::TooDeep`] if the manifests need too many ranks. The walk does not detect every deep chain of
    /// indexes, because the walk may first reach a manifest through a shorter chain.
    fn ranks(&self, root: Digest) -> Result<Vec<Vec<Arc<Node>>>, CopyError> {
        let lists_root = |node: &Arc<Node>| node.view.manifests().iter().any(|child| child.digest == root);
        let root_is_listed = self.nodes.values().any(lists_root);
        let mut remaining: Vec<&Arc<Node>> = self.nodes.values().collect();
        let (mut placed, mut ranks) = (HashSet::new(), Vec::new());
        while let Some(any) = remaining.first() {
            if ranks.len() > MAX_DEPTH {
                return Err(self.too_deep(any.digest()));
            }
            let is_placed =
                |child: &&Descriptor| placed.contains(&child.digest) || self.untyped_blobs.contains_key(&child.digest);
            let is_ready = |node: &&Arc<Node>| node.view.manifests().iter().all(is_placed);
            let (next, rest): (Vec<_>, Vec<_>) = remaining.into_iter().partition(is_ready);
            placed.extend(next.iter().map(|node| node.digest()));
            ranks.push(next.into_iter().filter(|node| root_is_listed || node.digest() != root).cloned().collect());
            remaining = rest;
        }
        Ok(ranks)
    }
}
