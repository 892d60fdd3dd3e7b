//! Content of the registry: repositories with blobs, manifests and tags. This module knows no HTTP and no faults.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Value;
use transship::oci::{Digest, MediaType};

/// Manifest as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Digest under which it was put, or the SHA-256 of its bytes.
    pub digest: Digest,
    /// Value of its `Content-Type`.
    pub media_type: String,
    /// Bytes of the manifest.
    pub bytes: Bytes,
}

#[derive(Debug, Default)]
struct Content {
    blobs: BTreeMap<Digest, Bytes>,
    manifests: BTreeMap<Digest, Stored>,
    tags: BTreeMap<String, Digest>,
}

/// All repositories. Each method is atomic.
#[derive(Debug, Default)]
pub struct Store(Mutex<BTreeMap<String, Content>>);

impl Store {
    fn read<T>(&self, repository: &str, read: impl FnOnce(&Content) -> Option<T>) -> Option<T> {
        read(self.0.lock().unwrap().get(repository)?)
    }

    fn change<T>(&self, repository: &str, change: impl FnOnce(&mut Content) -> T) -> T {
        change(self.0.lock().unwrap().entry(repository.to_owned()).or_default())
    }

    /// Returns the names of all repositories, sorted.
    pub fn repositories(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    /// Returns the tags of a repository with their digests, sorted; `None` if the repository does not exist.
    pub fn tags(&self, repository: &str) -> Option<BTreeMap<String, Digest>> {
        self.read(repository, |content| Some(content.tags.clone()))
    }

    /// Returns the digest of a tag.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.read(repository, |content| content.tags.get(tag).copied())
    }

    /// Returns a manifest by tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Stored> {
        self.read(repository, |content| {
            let digest = match reference.parse() {
                Ok(digest) => digest,
                Err(_) => *content.tags.get(reference)?,
            };
            content.manifests.get(&digest).cloned()
        })
    }

    /// Returns all manifests of a repository.
    pub fn manifests(&self, repository: &str) -> Vec<Stored> {
        self.read(repository, |content| Some(content.manifests.values().cloned().collect())).unwrap_or_default()
    }

    /// Returns the bytes of a blob.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.read(repository, |content| content.blobs.get(digest).cloned())
    }

    /// Returns the digests of all blobs of a repository.
    pub fn blobs(&self, repository: &str) -> Vec<Digest> {
        self.read(repository, |content| Some(content.blobs.keys().copied().collect())).unwrap_or_default()
    }

    /// Puts a blob under the SHA-256 of its bytes.
    pub fn put_blob(&self, repository: &str, bytes: Bytes) -> Digest {
        let digest = Digest::of(&bytes);
        self.put_blob_as(repository, digest, bytes);
        digest
    }

    /// Puts a blob under this digest, unchecked.
    pub fn put_blob_as(&self, repository: &str, digest: Digest, bytes: Bytes) {
        self.change(repository, |content| content.blobs.insert(digest, bytes));
    }

    /// Puts a manifest under its digest, and under the tag if there is one. Unchecked.
    pub fn put_manifest(&self, repository: &str, manifest: Stored, tag: Option<&str>) {
        self.change(repository, |content| {
            if let Some(tag) = tag {
                content.tags.insert(tag.to_owned(), manifest.digest);
            }
            content.manifests.insert(manifest.digest, manifest);
        });
    }

    /// Points a tag at an existing manifest.
    pub fn set_tag(&self, repository: &str, tag: &str, digest: Digest) {
        self.change(repository, |content| content.tags.insert(tag.to_owned(), digest));
    }

    /// Removes a blob. Returns true if it existed.
    pub fn remove_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.change(repository, |content| content.blobs.remove(digest).is_some())
    }

    /// Removes a tag, or a manifest with all its tags. Returns true if it existed.
    pub fn remove_manifest(&self, repository: &str, reference: &str) -> bool {
        self.change(repository, |content| match reference.parse::<Digest>() {
            Ok(digest) => {
                content.tags.retain(|_, tagged| *tagged != digest);
                content.manifests.remove(&digest).is_some()
            }
            Err(_) => content.tags.remove(reference).is_some(),
        })
    }

    /// Returns the descriptors of all manifests with this subject, as the referrers API lists them.
    pub fn referrers(&self, repository: &str, subject: &Digest) -> Vec<Value> {
        let subject = subject.to_string();
        let describe = |manifest: Stored| {
            let json: Value = serde_json::from_slice(&manifest.bytes).ok()?;
            (json["subject"]["digest"] == subject.as_str()).then(|| describe(&manifest, &json))
        };
        self.manifests(repository).into_iter().filter_map(describe).collect()
    }

    /// Returns the digests of blobs and manifests that a manifest points at and the repository lacks.
    pub fn missing(&self, repository: &str, manifest: &Value) -> Vec<String> {
        let blobs = std::iter::once(&manifest["config"]).chain(list(manifest, "layers")).chain(list(manifest, "blobs"));
        let blobs = blobs.filter(|blob| blob.is_object() && !is_foreign(blob)).map(|blob| (blob, false));
        let children = list(manifest, "manifests").map(|child| (child, true));
        let has = |digest: &str, is_manifest: bool| {
            self.read(repository, |content| {
                let digest: Digest = digest.parse().ok()?;
                let there = if is_manifest {
                    // distribution accepts an index that lists blobs.
                    content.manifests.contains_key(&digest) || content.blobs.contains_key(&digest)
                } else {
                    content.blobs.contains_key(&digest)
                };
                there.then_some(())
            })
        };
        blobs
            .chain(children)
            .map(|(descriptor, is_manifest)| (descriptor["digest"].as_str().unwrap_or_default(), is_manifest))
            .filter(|(digest, is_manifest)| has(digest, *is_manifest).is_none())
            .map(|(digest, _)| digest.to_owned())
            .collect()
    }
}

fn list<'a>(manifest: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    manifest[name].as_array().into_iter().flatten()
}

fn is_foreign(descriptor: &Value) -> bool {
    // As in distribution, a layer without a URL must exist in the repository.
    let has_address = descriptor["urls"].as_array().is_some_and(|urls| !urls.is_empty());
    has_address && descriptor["mediaType"].as_str().is_some_and(|text| MediaType::new(text).is_nondistributable())
}

/// Returns the descriptor of distribution-spec, "Listing Referrers": artifact type and annotations come from the
/// manifest.
fn describe(manifest: &Stored, json: &Value) -> Value {
    let mut descriptor = serde_json::json!({
        "mediaType": manifest.media_type, "digest": manifest.digest.to_string(), "size": manifest.bytes.len(),
    });
    let artifact_type = json.get("artifactType").or_else(|| json["config"].get("mediaType"));
    if let Some(artifact_type) = artifact_type {
        descriptor["artifactType"] = artifact_type.clone();
    }
    if let Some(annotations) = json.get("annotations") {
        descriptor["annotations"] = annotations.clone();
    }
    descriptor
}

impl From<&transship::oci::Manifest> for Stored {
    fn from(manifest: &transship::oci::Manifest) -> Self {
        Self {
            digest: manifest.digest(),
            media_type: manifest.media_type().to_string(),
            bytes: manifest.bytes().clone(),
        }
    }
}
