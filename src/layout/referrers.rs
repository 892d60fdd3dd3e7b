//! Referrers of a subject in a layout. A referrer is a manifest that names the subject. The referrers are in
//! `index.json`, or in a list under the fallback tag (`sha256-<hex>`).

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::disk::Disk;
use super::fault::Fault;
use super::index::Index;
use crate::oci::{Descriptor, Digest, Manifest, MediaType, referrers_tag};
use crate::store::Referrers;

/// Maximum number of cached manifests. If the cache is full, the next manifest clears the cache.
const MAX_FACTS: usize = 1 << 16;

/// Cache of the descriptors and subjects of manifests. The cache cannot become stale, because its keys are digests.
#[derive(Debug, Default)]
pub(super) struct Facts(Mutex<HashMap<Digest, Fact>>);

#[derive(Debug, Clone)]
pub(super) struct Fact {
    descriptor: Descriptor,
    pub(super) subject: Option<Digest>,
}

impl Facts {
    /// Returns true if the manifest exists and has a subject.
    pub(super) fn is_referrer(&self, disk: &Disk, digest: &Digest) -> bool {
        matches!(self.get(disk, digest, None), Ok(Some(Fact { subject: Some(_), .. })))
    }

    /// Removes a deleted manifest from the cache.
    pub(super) fn forget(&self, digest: &Digest) {
        self.0.lock().remove(digest);
    }

    /// Returns the values of a manifest. `None` if the manifest does not exist or cannot be copied.
    pub(super) fn get(&self, disk: &Disk, digest: &Digest, stated: Option<&MediaType>) -> Result<Option<Fact>, Fault> {
        if disk.blob_size(digest)?.is_none() {
            return Ok(None);
        }
        let cached = self.0.lock().get(digest).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let Some(manifest) = disk.read_manifest_alone(digest, stated)? else { return Ok(None) };
        let Ok(view) = manifest.view() else { return Ok(None) };
        let descriptor =
            Descriptor { artifact_type: view.artifact_type, annotations: view.annotations, ..manifest.descriptor() };
        let fact = Fact { descriptor, subject: view.subject };
        let mut facts = self.0.lock();
        if facts.len() >= MAX_FACTS {
            facts.clear();
        }
        facts.insert(*digest, fact.clone());
        Ok(Some(fact))
    }
}

/// Returns the referrers of `subject`. A listed manifest counts only if the manifest itself names this subject. If the
/// layout does not exist, there are no referrers.
pub(super) fn find(disk: &Disk, facts: &Facts, subject: &Digest) -> Result<Referrers, Fault> {
    let Some(index) = disk.read_index()? else { return Ok(Referrers::default()) };
    let lists = fallback_lists(disk, &index, subject)?;
    let mut listed = Vec::new();
    for list in &lists {
        listed.extend(list.view()?.manifests().into_iter().cloned());
    }
    let entries = index.entries().iter().filter_map(|entry| entry.target.as_ref());
    let candidates = entries
        .filter(|pointer| pointer.media_type.is_manifest() || pointer.media_type.as_str().is_empty())
        .map(|pointer| (pointer.digest, &pointer.media_type))
        .chain(listed.iter().map(|child| (child.digest, &child.media_type)));

    let mut seen = HashSet::new();
    let mut manifests = Vec::new();
    for (digest, stated) in candidates.filter(|(digest, _)| seen.insert(*digest)) {
        if let Some(fact) = facts.get(disk, &digest, Some(stated))?
            && fact.subject == Some(*subject)
        {
            manifests.push(fact.descriptor);
        }
    }
    // The caller can write this list unchanged to a target. So the result has the list only if the list contains
    // exactly the found referrers.
    let digests = |list: &[Descriptor]| list.iter().map(|descriptor| descriptor.digest).collect::<HashSet<_>>();
    let fallback = if lists.len() == 1 { lists.into_iter().next() } else { None };
    let fallback = fallback.filter(|_| digests(&listed) == digests(&manifests));
    Ok(Referrers { manifests, fallback, doubt: None })
}

/// Returns the lists under the fallback tag. If another tool has written the name twice, there are several lists. Skips
/// the subject itself, and content that is not an index.
fn fallback_lists(disk: &Disk, index: &Index, subject: &Digest) -> Result<Vec<Manifest>, Fault> {
    let tag = referrers_tag(subject);
    let mut lists: Vec<Manifest> = Vec::new();
    for entry in index.entries().iter().filter(|entry| entry.name.as_deref() == Some(tag.as_str())) {
        let Some(pointer) = &entry.target else { continue };
        let found = disk.read_manifest_alone(&pointer.digest, Some(&pointer.media_type))?;
        let is_new = |list: &Manifest| lists.iter().all(|other| other.digest() != list.digest());
        lists.extend(found.filter(|list| list.media_type().is_index() && list.digest() != *subject && is_new(list)));
    }
    Ok(lists)
}
