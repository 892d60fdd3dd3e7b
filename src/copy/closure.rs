//! Reads the closure of a digest from the source: every manifest that it reaches, what refers to them, and in which
//! order they must be written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;

use super::{Batch, CopyError};
use crate::oci::{Descriptor, Digest, Manifest, ManifestRef, ManifestView, Tag, signature_tags};
use crate::store::{Referrers, Source};

/// How deep indexes and referrers may be nested.
const MAX_DEPTH: usize = 8;

/// How many bytes of manifests one closure may have.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How many bytes of manifests are kept for the next tag that reaches them.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// A manifest of the source, read once.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) manifest: Manifest,
    pub(super) view: ManifestView,
    pub(super) companions: OnceCell<Arc<Companions>>,
}

/// What belongs to a manifest without being reached from it.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// The list of what refers to it.
    list: Referrers,
    referrers: Vec<Arc<Node>>,
    /// Cosign's tags and what they stand for.
    signatures: Vec<(Tag, Arc<Node>)>,
}

impl Node {
    pub(super) fn read(manifest: Manifest, place: &str) -> Result<Self, CopyError> {
        let view = manifest.view().map_err(|error| CopyError::manifest(place, manifest.digest(), &error))?;
        Ok(Self { manifest, view, companions: OnceCell::new() })
    }

    pub(super) fn digest(&self) -> Digest {
        self.manifest.digest()
    }

    /// The blobs that are to be at a target, each once. Foreign layers live elsewhere.
    pub(super) fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = HashSet::new();
        self.view.blobs().into_iter().filter(|blob| !blob.is_foreign() && seen.insert(blob.digest)).collect()
    }
}

/// The manifests that a batch has read lately. Each is read once, however many tags ask for it at a time.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    cells: HashMap<Digest, Arc<OnceCell<Arc<Node>>>>,
    /// What has been read, oldest first, with its size.
    kept: VecDeque<(Digest, usize)>,
    kept_bytes: usize,
}

impl Nodes {
    /// The manifest of this digest, read from the source unless it is kept.
    pub(super) async fn get(&self, source: &dyn Source, digest: Digest) -> Result<Arc<Node>, CopyError> {
        let cell = self.lock().cells.entry(digest).or_default().clone();
        let read = || async {
            let manifest = source.manifest(&digest.into()).await.map_err(CopyError::source)?;
            let node = Arc::new(Node::read(manifest, source.place())?);
            self.keep(digest, node.manifest.bytes().len());
            Ok(node)
        };
        cell.get_or_try_init(read).await.cloned()
    }

    fn keep(&self, digest: Digest, size: usize) {
        let mut table = self.lock();
        table.kept.push_back((digest, size));
        table.kept_bytes += size;
        while table.kept_bytes > KEPT_BYTES {
            let Some((oldest, size)) = table.kept.pop_front() else { break };
            table.kept_bytes -= size;
            table.cells.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All manifests that are to be at a target before the root is, and the root.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) root: Arc<Node>,
    /// All but the root. Each rank needs only what stands in the ranks before it.
    pub(super) ranks: Vec<Vec<Arc<Node>>>,
    /// Tags that belong to manifests of the closure: cosign's.
    pub(super) tags: HashMap<Digest, Vec<Tag>>,
    /// Which list of referrers is to be findable from which manifest.
    pub(super) referrers: Vec<(Digest, Referrers)>,
    /// How many blobs the closure has, each once.
    pub(super) blobs: u64,
}

impl Closure {
    /// Children of `node` that are in the closure.
    pub(super) fn children<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<Node>> {
        let wanted: HashSet<Digest> = node.view.manifests().iter().map(|child| child.digest).collect();
        self.ranks.iter().flatten().filter(move |node| wanted.contains(&node.digest()))
    }

    /// How many manifests it has.
    pub(super) fn manifests(&self) -> u64 {
        1 + self.ranks.iter().map(|rank| rank.len() as u64).sum::<u64>()
    }
}

/// A manifest and what it was found to lead to.
struct Reached {
    from: Arc<Node>,
    depth: usize,
    children: Vec<Arc<Node>>,
    companions: Option<Arc<Companions>>,
}

/// A walk over the source that is under way.
#[derive(Default)]
struct Survey {
    nodes: HashMap<Digest, Arc<Node>>,
    /// What must be written before what.
    needs: HashMap<Digest, Vec<Digest>>,
    tags: HashMap<Digest, Vec<Tag>>,
    referrers: Vec<(Digest, Referrers)>,
    bytes: usize,
}

/// Reads everything that `root` reaches. `found` is told of each manifest as soon as it is known, so that its blobs can
/// begin to move while the walk goes on. What refers to the root is left out when `derived`: it refers to another digest.
pub(super) async fn survey(
    batch: &Batch,
    root: Arc<Node>,
    derived: bool,
    found: impl Fn(&Arc<Node>) + Send + Sync,
) -> Result<Closure, CopyError> {
    let place = batch.source.place();
    let mut survey = Survey::default();
    let mut pending = FuturesUnordered::new();
    survey.discover(&root, place)?;
    found(&root);
    pending.push(reach(batch, root.clone(), 0, batch.rules.referrers && !derived));
    while let Some(reached) = pending.next().await {
        let reached = reached?;
        for (node, look_further) in survey.relate(&reached) {
            if reached.depth == MAX_DEPTH {
                let (place, digest) = (place.to_owned(), node.digest());
                return Err(CopyError::TooDeep { place, digest, depth: MAX_DEPTH });
            }
            if survey.discover(&node, place)? {
                found(&node);
                pending.push(reach(batch, node, reached.depth + 1, batch.rules.referrers && look_further));
            }
        }
    }
    Ok(survey.close(root))
}

async fn reach(batch: &Batch, from: Arc<Node>, depth: usize, look_further: bool) -> Result<Reached, CopyError> {
    let children = batch.nodes_of(from.view.manifests());
    let companions = async { if look_further { batch.companions(&from).await.map(Some) } else { Ok(None) } };
    let (children, companions) = futures_util::try_join!(children, companions)?;
    Ok(Reached { from, depth, children, companions })
}

impl Survey {
    /// Takes in a manifest; false when it is known already.
    fn discover(&mut self, node: &Arc<Node>, place: &str) -> Result<bool, CopyError> {
        if self.nodes.insert(node.digest(), node.clone()).is_some() {
            return Ok(false);
        }
        self.bytes += node.manifest.bytes().len();
        if self.bytes > MAX_BYTES {
            let reason = format!("with it the closure has over {MAX_BYTES} bytes of manifests");
            return Err(CopyError::Manifest { place: place.to_owned(), digest: node.digest(), reason });
        }
        Ok(true)
    }

    /// Notes what a manifest leads to, and gives it with whether to look for its own companions.
    fn relate(&mut self, reached: &Reached) -> Vec<(Arc<Node>, bool)> {
        let mut next: Vec<(Arc<Node>, bool)> = reached.children.iter().map(|node| (node.clone(), true)).collect();
        if let Some(companions) = &reached.companions {
            next.extend(companions.referrers.iter().map(|node| (node.clone(), true)));
            next.extend(companions.signatures.iter().map(|(_, node)| (node.clone(), false)));
            if !companions.list.manifests.is_empty() {
                self.referrers.push((reached.from.digest(), companions.list.clone()));
            }
            for (tag, node) in &companions.signatures {
                self.tags.entry(node.digest()).or_default().push(tag.clone());
            }
        }
        let needs = next.iter().map(|(node, _)| node.digest()).collect();
        self.needs.insert(reached.from.digest(), needs);
        next
    }

    /// Sorts what was found into ranks.
    fn close(self, root: Arc<Node>) -> Closure {
        let mut heights = HashMap::new();
        height(root.digest(), &self.needs, &mut heights);
        let mut ranks: Vec<Vec<Arc<Node>>> = Vec::new();
        for (digest, node) in &self.nodes {
            if *digest == root.digest() {
                continue;
            }
            let rank = heights.get(digest).copied().unwrap_or(0);
            if ranks.len() <= rank {
                ranks.resize_with(rank + 1, Vec::new);
            }
            ranks[rank].push(node.clone());
        }
        let blobs: HashSet<Digest> = self
            .nodes
            .values()
            .flat_map(|node| node.blobs().into_iter().map(|blob| blob.digest).collect::<Vec<_>>())
            .collect();
        Closure { root, ranks, tags: self.tags, referrers: self.referrers, blobs: blobs.len() as u64 }
    }
}

/// How many ranks stand below a manifest. One that leads back to itself (an index that is its own child's referrer) counts as
/// a leaf there: it cannot be ordered, and the target decides. At most [`MAX_DEPTH`] calls deep.
fn height(of: Digest, needs: &HashMap<Digest, Vec<Digest>>, heights: &mut HashMap<Digest, usize>) -> usize {
    if let Some(height) = heights.get(&of) {
        return *height;
    }
    heights.insert(of, 0);
    let below = needs.get(&of).map(Vec::as_slice).unwrap_or_default();
    let height = below.iter().map(|digest| height(*digest, needs, heights) + 1).max().unwrap_or(0);
    heights.insert(of, height);
    height
}

/// What belongs to a manifest at the source.
pub(super) async fn find_companions(batch: &Batch, node: &Node) -> Result<Companions, CopyError> {
    let digest = node.digest();
    let referrers = async {
        let list = batch.source.referrers(&digest).await.map_err(CopyError::source)?;
        let nodes = batch.nodes_of(&list.manifests).await?;
        Ok((list, nodes))
    };
    let signatures = async {
        let tags = signature_tags(&digest).into_iter().filter(|tag| batch.may_exist(tag));
        let found = try_join_all(tags.map(|tag| find_signature(batch, tag))).await?;
        Ok(found.into_iter().flatten().collect())
    };
    let ((list, referrers), signatures) = futures_util::try_join!(referrers, signatures)?;
    Ok(Companions { list, referrers, signatures })
}

async fn find_signature(batch: &Batch, tag: Tag) -> Result<Option<(Tag, Arc<Node>)>, CopyError> {
    let reference = ManifestRef::Tag(tag.clone());
    match batch.source.resolve(&reference).await.map_err(CopyError::source)? {
        Some(descriptor) => Ok(Some((tag, batch.node(descriptor.digest).await?))),
        None => Ok(None),
    }
}
