//! Cache of the manifests that a batch has read from its source. If several tags need a manifest at the same time, the
//! batch reads the manifest once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::OnceCell;

use super::CopyError;
use super::companions::Companions;
use crate::oci::{Descriptor, Digest, Manifest, ManifestView, Tag};
use crate::store::Source;

/// Maximum total size of the cached manifests, in bytes.
const MAX_CACHED_BYTES: usize = 8 * 1024 * 1024;

/// Manifest of the source, with its parsed view and its companions.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) manifest: Manifest,
    pub(super) view: ManifestView,
    pub(super) companions: OnceCell<Arc<Companions>>,
    /// True if the copy includes foreign layers.
    with_foreign_layers: bool,
}

impl Node {
    pub(super) fn read(manifest: Manifest, place: &str, with_foreign_layers: bool) -> Result<Self, CopyError> {
        let view = manifest.view().map_err(|error| CopyError::manifest(place, manifest.digest(), &error))?;
        Ok(Self { manifest, view, companions: OnceCell::new(), with_foreign_layers })
    }

    pub(super) fn digest(&self) -> Digest {
        self.manifest.digest()
    }

    /// Returns the blobs that a target must have, each once. The result contains foreign layers only if the rules copy
    /// foreign layers.
    pub(super) fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = HashSet::new();
        let is_wanted = |blob: &&Descriptor| self.with_foreign_layers || !blob.is_foreign();
        self.view.blobs().into_iter().filter(is_wanted).filter(|blob| seen.insert(blob.digest)).collect()
    }
}

/// Manifests that a batch has read recently.
#[derive(Debug)]
pub(super) struct Nodes {
    with_foreign_layers: bool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    cells: HashMap<Digest, Arc<OnceCell<Arc<Node>>>>,
    /// Digests of the cached manifests with their sizes, oldest first.
    cached: VecDeque<(Digest, usize)>,
    cached_bytes: usize,
}

impl Nodes {
    pub(super) fn new(with_foreign_layers: bool) -> Self {
        Self { with_foreign_layers, table: Mutex::default() }
    }

    /// Returns the manifest of this digest from the cache, or reads the manifest from the source.
    pub(super) async fn get(&self, source: &dyn Source, digest: Digest) -> Result<Arc<Node>, CopyError> {
        let cell = self.lock().cells.entry(digest).or_default().clone();
        let read = || async {
            let manifest = source.manifest(&digest.into()).await.map_err(CopyError::source)?;
            let node = Arc::new(Node::read(manifest, source.place(), self.with_foreign_layers)?);
            self.cache(digest, node.manifest.bytes().len());
            Ok(node)
        };
        cell.get_or_try_init(read).await.cloned()
    }

    /// Reads and caches the manifest of a tag. Returns the digest of the manifest.
    pub(super) async fn get_tag(&self, source: &dyn Source, tag: &Tag) -> Result<Digest, CopyError> {
        let manifest = source.manifest(&tag.clone().into()).await.map_err(CopyError::source)?;
        let node = Arc::new(Node::read(manifest, source.place(), self.with_foreign_layers)?);
        let (digest, size) = (node.digest(), node.manifest.bytes().len());
        let cell = self.lock().cells.entry(digest).or_default().clone();
        if cell.set(node).is_ok() {
            self.cache(digest, size);
        }
        Ok(digest)
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.lock().cells.get(digest).is_some_and(|cell| cell.initialized())
    }

    fn cache(&self, digest: Digest, size: usize) {
        let mut table = self.lock();
        table.cached.push_back((digest, size));
        table.cached_bytes += size;
        while table.cached_bytes > MAX_CACHED_BYTES {
            let Some((oldest, size)) = table.cached.pop_front() else { break };
            table.cached_bytes -= size;
            table.cells.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}
