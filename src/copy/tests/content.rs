//! Manifests for the tests.

use serde_json::{Value, json};

use crate::oci::{Descriptor, Digest, Manifest, MediaType};

fn entry(descriptor: &Descriptor) -> Value {
    let mut entry = json!({
        "mediaType": descriptor.media_type.as_str(), "digest": descriptor.digest.to_string(), "size": descriptor.size,
    });
    if descriptor.has_urls {
        entry["urls"] = json!(["https://files.example.com/layer.tar.gz"]);
    }
    if let Some(platform) = &descriptor.platform {
        entry["platform"] = json!({"os": platform.os, "architecture": platform.architecture});
    }
    entry
}

fn manifest(media_type: &str, mut body: Value, subject: Option<&Manifest>) -> Manifest {
    body["schemaVersion"] = 2.into();
    body["mediaType"] = media_type.into();
    if let Some(subject) = subject {
        body["subject"] = entry(&subject.descriptor());
    }
    // No serializer writes these spaces. So the tests notice code that serializes the manifest again.
    Manifest::new(MediaType::new(media_type), format!(" {} \n", body).into())
}

/// Returns an image of a configuration and layers.
pub(super) fn image(config: &Descriptor, layers: &[&Descriptor]) -> Manifest {
    refer(config, layers, None)
}

/// Returns an artifact that may refer to a subject.
pub(super) fn refer(config: &Descriptor, layers: &[&Descriptor], subject: Option<&Manifest>) -> Manifest {
    let layers: Vec<Value> = layers.iter().map(|layer| entry(layer)).collect();
    manifest(MediaType::OCI_MANIFEST, json!({"config": entry(config), "layers": layers}), subject)
}

/// Returns an artifact manifest of one of the two types: blobs and no configuration.
pub(super) fn artifact(media_type: &str, blobs: &[&Descriptor], subject: Option<&Manifest>) -> Manifest {
    let blobs: Vec<Value> = blobs.iter().map(|blob| entry(blob)).collect();
    manifest(media_type, json!({"artifactType": "application/spdx+json", "blobs": blobs}), subject)
}

/// Returns an index. Each entry has a media type, a digest and a size.
pub(super) fn raw_index(entries: &[(Option<String>, Digest, u64)]) -> Manifest {
    let entries = entries.iter().map(|(media_type, digest, size)| {
        let mut entry = json!({"digest": digest, "size": size});
        if let Some(media_type) = media_type {
            entry["mediaType"] = media_type.as_str().into();
        }
        entry
    });
    manifest(MediaType::OCI_INDEX, json!({"manifests": entries.collect::<Vec<_>>()}), None)
}

pub(super) fn index(children: &[&Descriptor]) -> Manifest {
    refer_by_index(children, None)
}

pub(super) fn refer_by_index(children: &[&Descriptor], subject: Option<&Manifest>) -> Manifest {
    let children: Vec<Value> = children.iter().map(|child| entry(child)).collect();
    manifest(MediaType::OCI_INDEX, json!({"manifests": children}), subject)
}

/// Returns the descriptor of an image for a platform.
pub(super) fn on(platform: &str, image: &Manifest) -> Descriptor {
    Descriptor { platform: Some(platform.parse().unwrap()), ..image.descriptor() }
}

/// Returns `length` bytes. Different seeds give different bytes.
pub(super) fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let mut block: Vec<u8> = (0..=250u8).map(|at| at.wrapping_mul(31).wrapping_add(seed)).collect();
    block.push(seed);
    let mut all = block.repeat(length.div_ceil(block.len()));
    all.truncate(length);
    all
}
