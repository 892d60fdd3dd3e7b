//! Reads the closure of a digest from the source: every manifest that it reaches, what refers to them, and in which
//! order they must be written.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use tokio::sync::OnceCell;

use super::{Batch, CopyError};
use crate::oci::{Descriptor, Digest, Manifest, ManifestView, Tag, referrers_tag, signature_tags};
use crate::store::{Listed, Referrers, Reservation, Source};

/// How deep indexes and referrers may be nested.
const MAX_DEPTH: usize = 8;

/// How many bytes of manifests one closure may have.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How many blobs one closure may have.
const MAX_BLOBS: usize = 32 * 1024;

/// How many manifests and lists of one closure are read at a time: what is read is counted before more is asked for.
const READS_AT_ONCE: usize = 24;

/// How many bytes of manifests are kept for the next tag that reaches them.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// A manifest of the source, read once.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) manifest: Manifest,
    pub(super) view: ManifestView,
    pub(super) companions: OnceCell<Arc<Companions>>,
}

/// What belongs to a manifest without being reached from it. Digests and no nodes: a source may claim that two manifests
/// refer to each other.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// The list of what refers to it.
    pub(super) list: Referrers,
    /// Cosign's tags and what they stand for.
    signatures: Vec<(Tag, Digest)>,
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

    /// The digest of what a tag stands for now, with its manifest read.
    pub(super) async fn get_tag(&self, source: &dyn Source, tag: &Tag) -> Result<Digest, CopyError> {
        let manifest = source.manifest(&tag.clone().into()).await.map_err(CopyError::source)?;
        let node = Arc::new(Node::read(manifest, source.place())?);
        let (digest, size) = (node.digest(), node.manifest.bytes().len());
        let cell = self.lock().cells.entry(digest).or_default().clone();
        if cell.set(node).is_ok() {
            self.keep(digest, size);
        }
        Ok(digest)
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.lock().cells.get(digest).is_some_and(|cell| cell.initialized())
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

/// All manifests that are to be at a target before the root's tag is, and the root.
#[derive(Debug)]
pub(super) struct Closure {
    pub(super) root: Arc<Node>,
    /// What is to be written by digest before the root: all but the root, and the root as well where something lists it
    /// that refers to it. Each rank needs only what stands in the ranks before it.
    pub(super) ranks: Vec<Vec<Arc<Node>>>,
    /// Tags that belong to manifests of the closure: cosign's.
    pub(super) tags: HashMap<Digest, Vec<Tag>>,
    /// Which list of referrers is to be findable from which manifest.
    pub(super) referrers: Vec<(Digest, Arc<Companions>)>,
    /// How many manifests the closure has, each once.
    pub(super) manifests: u64,
    /// How many blobs the closure has, each once.
    pub(super) blobs: u64,
}

impl Closure {
    /// Children of `node` that are in the closure.
    pub(super) fn children<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<Node>> {
        let wanted: HashSet<Digest> = node.view.manifests().iter().map(|child| child.digest).collect();
        self.ranks.iter().flatten().filter(move |node| wanted.contains(&node.digest()))
    }
}

/// Something to be read from the source, at some depth below the root.
enum Ask {
    /// The right to read these, all of them or none: a part of a closure is worth nothing.
    Reads(Vec<(usize, Digest)>),
    Manifest(Digest),
    Companions(Arc<Node>),
}

/// What was read.
enum Answer {
    Reads(Vec<(usize, Digest)>, Reservation),
    Manifest(Arc<Node>),
    Companions(Digest, Arc<Companions>),
}

/// A walk over the source that is under way.
struct Survey<'a> {
    place: &'a str,
    with_companions: bool,
    to_ask: VecDeque<(usize, Ask)>,
    /// Manifests that were met, and are to be asked for together.
    just_met: Vec<(usize, Digest)>,
    /// Every digest that was met, and whether its companions are wanted.
    met: HashMap<Digest, bool>,
    nodes: HashMap<Digest, Arc<Node>>,
    tags: HashMap<Digest, Vec<Tag>>,
    referrers: Vec<(Digest, Arc<Companions>)>,
    bytes: usize,
    blobs: HashSet<Digest>,
}

/// Reads everything that `root` reaches. `found` is told of each manifest as soon as it is known, so that its blobs can
/// begin to move while the walk goes on. What refers to the root is left out when `derived`: it refers to another digest.
pub(super) async fn survey(
    batch: &Batch,
    root: Arc<Node>,
    derived: bool,
    found: impl Fn(&Arc<Node>) + Send + Sync,
) -> Result<Closure, CopyError> {
    let mut survey = Survey::new(batch);
    let mut reservations = Vec::new();
    let mut asked = FuturesUnordered::new();
    survey.met.insert(root.digest(), batch.rules.referrers && !derived);
    survey.take_in(&root, 0)?;
    found(&root);
    loop {
        while asked.len() < READS_AT_ONCE
            && let Some((depth, ask)) = survey.to_ask.pop_front()
        {
            asked.push(answer(batch, depth, ask));
        }
        match asked.next().await.transpose()? {
            Some((_, Answer::Reads(manifests, reservation))) => {
                reservations.push(reservation);
                let manifests = manifests.into_iter().map(|(depth, digest)| (depth, Ask::Manifest(digest)));
                survey.to_ask.extend(manifests);
            }
            Some((depth, Answer::Manifest(node))) => {
                survey.take_in(&node, depth)?;
                found(&node);
            }
            Some((depth, Answer::Companions(of, companions))) => survey.relate(of, companions, depth)?,
            None => return survey.close(root),
        }
    }
}

fn answer(batch: &Batch, depth: usize, ask: Ask) -> BoxFuture<'_, Result<(usize, Answer), CopyError>> {
    Box::pin(async move {
        Ok(match ask {
            Ask::Reads(manifests) => {
                let reservation = batch.reserve(manifests.iter().map(|(_, digest)| *digest)).await?;
                (depth, Answer::Reads(manifests, reservation))
            }
            Ask::Manifest(digest) => (depth, Answer::Manifest(batch.node(digest).await?)),
            Ask::Companions(node) => (depth, Answer::Companions(node.digest(), batch.companions(&node).await?)),
        })
    })
}

impl<'a> Survey<'a> {
    fn new(batch: &'a Batch) -> Self {
        Self {
            place: batch.source.place(),
            with_companions: batch.rules.referrers,
            to_ask: VecDeque::new(),
            just_met: Vec::new(),
            met: HashMap::new(),
            nodes: HashMap::new(),
            tags: HashMap::new(),
            referrers: Vec::new(),
            bytes: 0,
            blobs: HashSet::new(),
        }
    }

    /// Takes in a manifest that was read, and asks for what it leads to.
    fn take_in(&mut self, node: &Arc<Node>, depth: usize) -> Result<(), CopyError> {
        self.nodes.insert(node.digest(), node.clone());
        self.bytes += node.manifest.bytes().len();
        self.blobs.extend(node.blobs().iter().map(|blob| blob.digest));
        if self.bytes > MAX_BYTES {
            return Err(self.refuse(node, format!("with it the closure has over {MAX_BYTES} bytes of manifests")));
        }
        if self.blobs.len() > MAX_BLOBS {
            return Err(self.refuse(node, format!("with it the closure has over {MAX_BLOBS} blobs")));
        }
        for child in node.view.manifests() {
            self.meet(child.digest, depth + 1, self.with_companions)?;
        }
        self.ask_for_those_met(depth);
        if self.met.get(&node.digest()) == Some(&true) {
            self.to_ask.push_back((depth, Ask::Companions(node.clone())));
        }
        Ok(())
    }

    /// Takes in what belongs to a manifest.
    fn relate(&mut self, of: Digest, companions: Arc<Companions>, depth: usize) -> Result<(), CopyError> {
        for referrer in &companions.list.manifests {
            self.meet(referrer.digest, depth + 1, self.with_companions)?;
        }
        for (tag, digest) in &companions.signatures {
            self.tags.entry(*digest).or_default().push(tag.clone());
            self.meet(*digest, depth + 1, false)?;
        }
        self.ask_for_those_met(depth);
        if !companions.list.manifests.is_empty() {
            self.referrers.push((of, companions));
        }
        Ok(())
    }

    /// Takes in a manifest that something leads to, to be asked for unless that has been done.
    fn meet(&mut self, digest: Digest, depth: usize, with_companions: bool) -> Result<(), CopyError> {
        let Some(wanted) = self.met.get_mut(&digest) else {
            if depth > MAX_DEPTH {
                return Err(self.too_deep(digest));
            }
            self.met.insert(digest, with_companions);
            self.just_met.push((depth, digest));
            return Ok(());
        };
        // Met first as a signature, whose companions are of no interest, and now as more than that.
        if with_companions && !*wanted {
            *wanted = true;
            if let Some(node) = self.nodes.get(&digest) {
                self.to_ask.push_back((depth, Ask::Companions(node.clone())));
            }
        }
        Ok(())
    }

    fn ask_for_those_met(&mut self, depth: usize) {
        if !self.just_met.is_empty() {
            let met = std::mem::take(&mut self.just_met);
            self.to_ask.push_back((depth, Ask::Reads(met)));
        }
    }

    fn refuse(&self, node: &Node, reason: String) -> CopyError {
        CopyError::Manifest { place: self.place.to_owned(), digest: node.digest(), reason }
    }

    fn too_deep(&self, digest: Digest) -> CopyError {
        CopyError::TooDeep { place: self.place.to_owned(), digest, depth: MAX_DEPTH }
    }

    fn close(self, root: Arc<Node>) -> Result<Closure, CopyError> {
        Ok(Closure {
            ranks: self.ranks(root.digest())?,
            root,
            tags: self.tags,
            referrers: self.referrers,
            manifests: self.nodes.len() as u64,
            blobs: self.blobs.len() as u64,
        })
    }

    /// Sorts what was found, by what indexes list: that must be there before them. What refers to a manifest may come
    /// before it or after it, so it sets no order, and there are no circles. How deep a manifest was found says little (one
    /// rank of an index may list the next), so the depth is judged here again.
    fn ranks(&self, root: Digest) -> Result<Vec<Vec<Arc<Node>>>, CopyError> {
        let lists_root = |node: &Arc<Node>| node.view.manifests().iter().any(|child| child.digest == root);
        let root_is_listed = self.nodes.values().any(lists_root);
        let mut left: Vec<&Arc<Node>> = self.nodes.values().collect();
        let (mut placed, mut ranks) = (HashSet::new(), Vec::new());
        while let Some(any) = left.first() {
            if ranks.len() > MAX_DEPTH {
                return Err(self.too_deep(any.digest()));
            }
            let stands = |node: &&Arc<Node>| node.view.manifests().iter().all(|child| placed.contains(&child.digest));
            let (next, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(stands);
            placed.extend(next.iter().map(|node| node.digest()));
            ranks.push(next.into_iter().filter(|node| root_is_listed || node.digest() != root).cloned().collect());
            left = rest;
        }
        Ok(ranks)
    }
}

/// What belongs to a manifest at the source.
pub(super) async fn find_companions(batch: &Batch, node: &Node) -> Result<Companions, CopyError> {
    let digest = node.digest();
    let list = async {
        let fallback = batch.listed(&referrers_tag(&digest));
        let list = batch.referrers(&digest, fallback).await?;
        believed(batch, digest, list).await
    };
    let tags = signature_tags(&digest).into_iter().filter(|tag| batch.listed(tag) == Listed::Perhaps);
    let signatures = try_join_all(tags.map(|tag| find_signature(batch, tag)));
    let (list, signatures) = futures_util::try_join!(list, signatures)?;
    Ok(Companions { list, signatures: signatures.into_iter().flatten().collect() })
}

/// The list without what cannot be believed. Under the fallback tag some registries keep other things, and a referrer that
/// was deleted may still be listed.
async fn believed(batch: &Batch, subject: Digest, mut list: Referrers) -> Result<Referrers, CopyError> {
    let _reads = batch.reserve(list.manifests.iter().map(|listed| listed.digest)).await?;
    let checks = list.manifests.iter().map(|listed| refers_to(batch, listed.digest, subject));
    let believed = try_join_all(checks).await?;
    let listed = list.manifests.len();
    let mut verdicts = believed.into_iter();
    list.manifests.retain(|_| verdicts.next() == Some(true));
    if list.manifests.len() < listed {
        list.fallback = None;
    }
    Ok(list)
}

async fn refers_to(batch: &Batch, referrer: Digest, subject: Digest) -> Result<bool, CopyError> {
    let why = match batch.node(referrer).await {
        Ok(node) if node.view.subject == Some(subject) => return Ok(true),
        Ok(_) => "it names another subject",
        Err(error) if error.is_not_found() => "it is not there",
        Err(error) => return Err(error),
    };
    tracing::warn!(source = batch.source.place(), %subject, %referrer, why, "left out of the list of referrers");
    Ok(false)
}

async fn find_signature(batch: &Batch, tag: Tag) -> Result<Option<(Tag, Digest)>, CopyError> {
    let found = batch.source.resolve(&tag.clone().into()).await.map_err(CopyError::source)?;
    Ok(found.map(|descriptor| (tag, descriptor.digest)))
}
