//! Small real images and artifacts, the same bytes for the same seed, and functions that push them.

use std::io::Write as _;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use transship::oci::{Descriptor, Digest, Manifest, MediaType, RepositoryName, Tag};
use transship::store::{ReferrerLink, Referrers, StoreError, Target, UploadStart, Verified};

use super::registry::{Server, Store};

/// Layout of the examples, with tags such as `1.0.0` and `1.1.0`.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");

/// Family of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// OCI image specification.
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

/// Layer as a manifest lists it.
#[derive(Debug, Clone)]
pub struct Layer {
    descriptor: Value,
    /// Digest of the tar archive before compression.
    diff_id: Digest,
    /// Compressed bytes; `None` for a foreign layer.
    bytes: Option<Bytes>,
}

/// Manifest with everything that is needed to push it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Manifest or index itself.
    pub manifest: Manifest,
    /// Configuration and layers, without foreign ones.
    pub blobs: Vec<Bytes>,
    /// Children of an index.
    pub children: Vec<Image>,
    platform: Option<Value>,
}

/// Returns the platform of Linux on this architecture.
pub fn linux(architecture: &str) -> Value {
    json!({"os": "linux", "architecture": architecture})
}

/// Returns bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, size: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

/// Returns a gzipped layer that contains one file of `size` bytes of noise.
pub fn layer(family: Family, seed: u64, size: usize) -> Layer {
    let name = format!("usr/share/layer-{seed}");
    layer_of(family, &archive(&[(name.as_str(), noise(seed, size))]))
}

/// Returns a gzipped layer without any file.
pub fn empty_layer(family: Family) -> Layer {
    layer_of(family, &archive(&[]))
}

/// Returns a foreign layer, which is not pushed.
pub fn foreign_layer(family: Family, seed: u64) -> Layer {
    let mut layer = layer(family, seed, 100);
    layer.descriptor["mediaType"] = match family {
        Family::Oci => "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        Family::Docker => "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
    .into();
    layer.descriptor["urls"] = json!([format!("https://layers.invalid/{seed}")]);
    layer.bytes = None;
    layer
}

/// Returns the bytes of a [`foreign_layer`], for a registry that stores foreign layers.
pub fn foreign_bytes(family: Family, seed: u64) -> Bytes {
    layer(family, seed, 100).bytes.expect("the layer has bytes")
}

/// Returns the image without the URLs of its layers.
pub fn without_urls(image: &Image) -> Image {
    let mut body: Value = serde_json::from_slice(image.manifest.bytes()).expect("the manifest is JSON");
    for layer in body["layers"].as_array_mut().into_iter().flatten() {
        layer.as_object_mut().map(|layer| layer.remove("urls"));
    }
    Image { manifest: manifest(image.manifest.media_type().as_str(), &body), ..image.clone() }
}

fn layer_of(family: Family, tar: &[u8]) -> Layer {
    let bytes = gzip(tar);
    let media_type = match family {
        Family::Oci => "application/vnd.oci.image.layer.v1.tar+gzip",
        Family::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
    };
    Layer { descriptor: descriptor(media_type, &bytes), diff_id: Digest::of(tar), bytes: Some(bytes) }
}

impl Layer {
    /// Returns the digest of the layer's compressed bytes.
    pub fn digest(&self) -> Digest {
        self.descriptor["digest"].as_str().unwrap().parse().unwrap()
    }
}

/// Returns an image of these layers for one platform.
pub fn image(family: Family, platform: Value, layers: &[Layer]) -> Image {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = json!({
        "architecture": platform["architecture"], "os": platform["os"], "config": {"Cmd": ["/bin/sh"]},
        "created": "2024-01-01T00:00:00Z", "history": [],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = Bytes::from(config.to_string());
    let (manifest_type, config_type) = match family {
        Family::Oci => (MediaType::OCI_MANIFEST, "application/vnd.oci.image.config.v1+json"),
        Family::Docker => (MediaType::DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json"),
    };
    let descriptors: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
    let body = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": descriptor(config_type, &config), "layers": descriptors,
    });
    let blobs = std::iter::once(config).chain(layers.iter().filter_map(|layer| layer.bytes.clone())).collect();
    Image { manifest: manifest(manifest_type, &body), blobs, children: Vec::new(), platform: Some(platform) }
}

/// Returns a small image with two layers, of which the first is the same for all seeds.
pub fn small(family: Family, seed: u64) -> Image {
    image(family, linux("amd64"), &[layer(family, 0, 2000), layer(family, seed, 1000)])
}

/// Returns an index of these images or indexes.
pub fn index(family: Family, children: &[Image]) -> Image {
    let media_type = match family {
        Family::Oci => MediaType::OCI_INDEX,
        Family::Docker => MediaType::DOCKER_LIST,
    };
    let entry = |child: &Image| {
        let mut entry = child.descriptor();
        if let Some(platform) = &child.platform {
            entry["platform"] = platform.clone();
        }
        entry
    };
    let entries: Vec<Value> = children.iter().map(entry).collect();
    let body = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    Image { manifest: manifest(media_type, &body), blobs: Vec::new(), children: children.to_vec(), platform: None }
}

/// Returns an index of one small image each for amd64 and arm64, which share their first layer.
pub fn two_platforms(family: Family, seed: u64) -> Image {
    let base = layer(family, 0, 2000);
    let child = |architecture, seed| image(family, linux(architecture), &[base.clone(), layer(family, seed, 1000)]);
    index(family, &[child("amd64", seed), child("arm64", seed + 1000)])
}

/// Returns an artifact of any kind with these layers by media type. Without `config`, the artifact has the empty
/// configuration (image-spec, "Guidance for an Empty Descriptor").
pub fn artifact(kind: &str, config: Option<(&str, Value)>, layers: &[(&str, Bytes)], subject: Option<&Image>) -> Image {
    let (config_type, config) = match config {
        Some((media_type, config)) => (media_type, Bytes::from(config.to_string())),
        None => ("application/vnd.oci.empty.v1+json", Bytes::from_static(b"{}")),
    };
    let descriptors: Vec<Value> = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    let mut body = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": kind,
        "config": descriptor(config_type, &config), "layers": descriptors,
    });
    if let Some(subject) = subject {
        body["subject"] = subject.descriptor();
    }
    let blobs = std::iter::once(config).chain(layers.iter().map(|(_, bytes)| bytes.clone())).collect();
    Image { manifest: manifest(MediaType::OCI_MANIFEST, &body), blobs, children: Vec::new(), platform: None }
}

/// Returns a Helm chart.
pub fn helm_chart(name: &str, version: &str) -> Image {
    let chart = format!("apiVersion: v2\nname: {name}\nversion: {version}\n");
    let content = gzip(&archive(&[(format!("{name}/Chart.yaml").as_str(), Bytes::from(chart))]));
    artifact(
        "application/vnd.cncf.helm.config.v1+json",
        Some((
            "application/vnd.cncf.helm.config.v1+json",
            json!({"apiVersion": "v2", "name": name, "version": version}),
        )),
        &[("application/vnd.cncf.helm.chart.content.v1.tar+gzip", content)],
        None,
    )
}

/// Returns an SBOM that refers to `subject`.
pub fn sbom(subject: &Image, seed: u64) -> Image {
    let document = json!({"spdxVersion": "SPDX-2.3", "name": format!("sbom-{seed}")});
    let document = Bytes::from(document.to_string());
    artifact("application/spdx+json", None, &[("application/spdx+json", document)], Some(subject))
}

/// Returns a referrer of `subject` as cosign 3 writes it: a Sigstore bundle that contains the signature.
pub fn cosign_bundle(subject: &Image, seed: u64) -> Image {
    let bundle = json!({
        "mediaType": BUNDLE, "verificationMaterial": {"tlogEntries": []},
        "dsseEnvelope": {"payloadType": "application/vnd.in-toto+json", "payload": format!("{seed}"), "signatures": []},
    });
    let mut image = artifact(BUNDLE, None, &[(BUNDLE, Bytes::from(bundle.to_string()))], Some(subject));
    let mut body: Value = serde_json::from_slice(image.manifest.bytes()).expect("the manifest is JSON");
    body["annotations"] = json!({
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
    });
    image.manifest = manifest(MediaType::OCI_MANIFEST, &body);
    image
}

/// Media type of cosign's bundles.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Returns an artifact manifest of the release candidates of OCI 1.1, which has no configuration.
pub fn artifact_manifest(kind: &str, content: &str, subject: Option<&Image>) -> Image {
    let blob = Bytes::from(content.to_owned());
    let mut body = json!({
        "mediaType": MediaType::OCI_ARTIFACT, "artifactType": kind, "blobs": [descriptor(kind, &blob)],
    });
    if let Some(subject) = subject {
        body["subject"] = subject.descriptor();
    }
    let manifest = manifest(MediaType::OCI_ARTIFACT, &body);
    Image { manifest, blobs: vec![blob], children: Vec::new(), platform: None }
}

/// Returns the image that cosign pushes under [`signature_tag`]; its layer is the signed statement.
pub fn signature(of: &Image) -> Image {
    let statement = json!({"critical": {"image": {"docker-manifest-digest": of.digest().to_string()}}});
    let statement = Bytes::from(statement.to_string());
    let media_type = "application/vnd.dev.cosign.simplesigning.v1+json";
    let mut layer = descriptor(media_type, &statement);
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "c2lnbmF0dXJl"});
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let config = Bytes::from(config.to_string());
    let body = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "layers": [layer],
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
    });
    let manifest = manifest(MediaType::OCI_MANIFEST, &body);
    Image { manifest, blobs: vec![config, statement], children: Vec::new(), platform: None }
}

/// Returns the tag under which cosign looks for signatures of an image.
pub fn signature_tag(of: &Image) -> String {
    format!("{}.sig", of.digest().to_string().replace(':', "-"))
}

/// Returns a manifest of schema 1, which old registries still contain.
pub fn schema_1(name: &str) -> Image {
    let body = json!({
        "schemaVersion": 1, "name": name, "tag": "old", "architecture": "amd64",
        "fsLayers": [], "history": [], "signatures": [],
    });
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    Image { manifest: manifest(media_type, &body), blobs: Vec::new(), children: Vec::new(), platform: None }
}

impl Image {
    /// Returns the digest of the manifest.
    pub fn digest(&self) -> Digest {
        self.manifest.digest()
    }

    /// Returns the descriptor of the manifest, as JSON.
    pub fn descriptor(&self) -> Value {
        let Descriptor { media_type, digest, size, .. } = self.manifest.descriptor();
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// Returns all manifests of the closure, children first.
    pub fn manifests(&self) -> Vec<&Manifest> {
        self.children.iter().flat_map(Image::manifests).chain([&self.manifest]).collect()
    }

    /// Returns all blobs of the closure, each digest once.
    pub fn all_blobs(&self) -> Vec<Bytes> {
        let mut blobs: Vec<Bytes> = self.children.iter().flat_map(Image::all_blobs).chain(self.blobs.clone()).collect();
        blobs.sort_by_key(|blob| Digest::of(blob));
        blobs.dedup();
        blobs
    }

    /// Puts the closure directly into a registry's store, and sets the tag.
    pub fn put(&self, server: &Server, repository: &str, tag: Option<&str>) {
        self.store(server.store(), repository, tag);
    }

    fn store(&self, store: &Store, repository: &str, tag: Option<&str>) {
        for blob in &self.blobs {
            store.put_blob(repository, blob.clone());
        }
        for child in &self.children {
            child.store(store, repository, None);
        }
        store.put_manifest(repository, (&self.manifest).into(), tag);
    }

    /// Pushes the closure to a target, children first. Adds the image to the referrers list of its subject if the
    /// target does not do that.
    pub async fn push(&self, target: &dyn Target, tag: Option<&str>) -> Result<(), StoreError> {
        for child in &self.children {
            Box::pin(child.push(target, None)).await?;
        }
        for blob in &self.blobs {
            push_blob(target, blob.clone(), None).await?;
        }
        let tag: Option<Tag> = tag.map(|tag| tag.parse().expect("a tag"));
        let link = target.push_manifest(&self.manifest, tag.as_ref()).await?;
        if let (ReferrerLink::Unlisted, Some(subject)) = (link, self.manifest.view().ok().and_then(|view| view.subject))
        {
            let mut descriptor = self.manifest.descriptor();
            descriptor.artifact_type = self.manifest.view().ok().and_then(|view| view.artifact_type);
            target.link_referrers(&subject, &Referrers { manifests: vec![descriptor], ..Referrers::default() }).await?;
        }
        Ok(())
    }
}

/// Returns the descriptor of a blob of any type.
pub fn blob_descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new("application/octet-stream"), Digest::of(bytes), bytes.len() as u64)
}

/// Pushes a blob in pieces, unless the target has it. Returns true if bytes were sent.
pub async fn push_blob(target: &dyn Target, bytes: Bytes, from: Option<&RepositoryName>) -> Result<bool, StoreError> {
    let blob = blob_descriptor(&bytes);
    if target.has_blob(&blob).await? {
        return Ok(false);
    }
    match target.begin_upload(&blob, from).await? {
        UploadStart::Mounted => Ok(false),
        UploadStart::Session(upload) => {
            upload.send(verified(&blob, bytes)).await?;
            Ok(true)
        }
    }
}

/// Returns these bytes in pieces, to be verified against `blob`.
pub fn verified(blob: &Descriptor, bytes: Bytes) -> Verified {
    let pieces: Vec<Result<Bytes, StoreError>> = bytes.chunks(10_000).map(|piece| Ok(bytes.slice_ref(piece))).collect();
    Verified::new(stream::iter(pieces).boxed(), blob.clone(), "the test")
}

fn manifest(media_type: &str, body: &Value) -> Manifest {
    // The JSON is pretty-printed, as many builders do. Serialising it again would change the digest.
    let text = serde_json::to_string_pretty(body).expect("the body is JSON");
    Manifest::new(MediaType::new(media_type), text.into())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

fn archive(files: &[(&str, Bytes)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, &content[..]).expect("writing to memory");
    }
    archive.into_inner().expect("writing to memory")
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory").into()
}

/// Puts the list of these referrers under the fallback tag of their subject (distribution-spec, "Referrers Tag
/// Schema"), without the API.
pub fn list_referrers(server: &Server, repository: &str, subject: &Image, referrers: &[&Image]) {
    let entries: Vec<Value> = referrers.iter().map(|referrer| referrer.descriptor()).collect();
    let list = manifest(
        MediaType::OCI_INDEX,
        &json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}),
    );
    let tag = subject.digest().to_string().replace(':', "-");
    server.store().put_manifest(repository, (&list).into(), Some(&tag));
}
