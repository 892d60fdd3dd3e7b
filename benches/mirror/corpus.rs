//! Test content (corpus) of the benchmark, generated from a seed. The same seed gives the same bytes on every machine.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLATFORMS: [&str; 2] = ["amd64", "arm64"];

/// Sum of the blob sizes in [`registry`] at scale 1, in bytes.
const BYTES_AT_SCALE_1: f64 = 367.7e6;

/// Repositories and their blobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Corpus {
    pub(crate) blobs: BTreeMap<String, Blob>,
    pub(crate) repositories: Vec<Repository>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) size: u64,
    /// Content of the blob. The process of the floor does not receive the content.
    #[serde(skip)]
    content: Content,
}

/// Source of a blob's bytes.
#[derive(Debug, Clone)]
enum Content {
    Literal(Bytes),
    /// Incompressible bytes that are generated from a seed.
    Random(u64),
}

impl Default for Content {
    fn default() -> Self {
        Self::Literal(Bytes::new())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Repository {
    pub(crate) name: String,
    /// Digests of the blobs in the repository.
    pub(crate) blobs: BTreeSet<String>,
    /// Manifests. The manifests of an index come before the index.
    pub(crate) manifests: Vec<Manifest>,
    /// Digest of each tag.
    pub(crate) tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    /// Digests of the blobs and manifests that a client must write before this manifest.
    pub(crate) needs: Vec<String>,
    #[serde(skip)]
    pub(crate) bytes: Bytes,
}

impl Blob {
    /// Generates all bytes of the blob in memory. For a blob of more than a few hundred MB, use [`Blob::pieces`].
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.content {
            Content::Literal(bytes) => bytes.clone(),
            Content::Random(seed) => {
                let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX)];
                Random(*seed).fill(&mut bytes);
                bytes.into()
            }
        }
    }

    /// Generates the bytes of the blob in slices of 1 MiB.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Bytes> + Send + 'static {
        const SLICE: u64 = 1 << 20;
        let (size, content) = (self.size, self.content.clone());
        let mut random = Random(if let Content::Random(seed) = content { seed } else { 0 });
        let slices = size.div_ceil(SLICE);
        (0..slices).map(move |slice| match &content {
            Content::Literal(bytes) => bytes.slice((slice * SLICE) as usize..((slice + 1) * SLICE).min(size) as usize),
            Content::Random(_) => {
                let mut bytes = vec![0; (size - slice * SLICE).min(SLICE) as usize];
                random.fill(&mut bytes);
                bytes.into()
            }
        })
    }
}

/// Random number generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }

    /// Returns a uniformly distributed number from 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Repository {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), blobs: BTreeSet::new(), manifests: Vec::new(), tags: BTreeMap::new() }
    }

    fn add_manifest(&mut self, body: &Value, needs: Vec<String>) -> Value {
        let bytes = Bytes::from(body.to_string());
        let media_type = body["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
        let digest = digest_of(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.manifests.push(Manifest { digest, media_type, needs, bytes });
        descriptor
    }

    /// Points one tag to a new manifest. Returns the tag and the manifest.
    pub(crate) fn change_a_tag(&mut self, mark: &str) -> Option<(String, Manifest)> {
        let (tag, old) = self.tags.iter().next().map(|(tag, digest)| (tag.clone(), digest.clone()))?;
        let old = self.manifests.iter().find(|manifest| manifest.digest == old)?.clone();
        let mut body: Value = serde_json::from_slice(&old.bytes).ok()?;
        body["annotations"] = json!({ "org.opencontainers.image.revision": mark });
        let descriptor = self.add_manifest(&body, old.needs);
        self.tags.insert(tag.clone(), text(&descriptor, "digest"));
        Some((tag, self.manifests.last()?.clone()))
    }
}

impl Corpus {
    fn add_random(&mut self, repository: &mut Repository, seed: u64, size: u64, media_type: &str) -> Value {
        let mut hash = Sha256::new();
        let mut blob = Blob { size, content: Content::Random(seed) };
        blob.pieces().for_each(|piece| hash.update(&piece));
        if size <= 8 {
            blob.content = Content::Literal(blob.bytes());
        }
        self.add_blob(repository, format!("sha256:{}", hex::encode(hash.finalize())), blob, media_type)
    }

    fn add_literal(&mut self, repository: &mut Repository, bytes: impl Into<Bytes>, media_type: &str) -> Value {
        let bytes = bytes.into();
        let blob = Blob { size: bytes.len() as u64, content: Content::Literal(bytes.clone()) };
        self.add_blob(repository, digest_of(&bytes), blob, media_type)
    }

    fn add_blob(&mut self, repository: &mut Repository, digest: String, blob: Blob, media_type: &str) -> Value {
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": blob.size});
        repository.blobs.insert(digest.clone());
        self.blobs.entry(digest).or_insert(blob);
        descriptor
    }

    /// Adds an image manifest with a config and layers.
    fn image(repository: &mut Repository, config: &Value, layers: &[Value], more: Value) -> Value {
        let mut body = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        let needs = layers.iter().chain([config]).map(|blob| text(blob, "digest")).collect();
        repository.add_manifest(&body, needs)
    }

    pub(crate) fn tags(&self) -> usize {
        self.repositories.iter().map(|repository| repository.tags.len()).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.values().map(|blob| blob.size).sum()
    }

    /// Returns the number of requests that every tool needs:
    /// - for each blob: one read, and two requests for the write
    /// - for each additional repository with the blob: one mount
    /// - for each manifest: one read, and one write for each tag (or one write by digest)
    pub(crate) fn unavoidable_requests(&self) -> usize {
        let placed: usize = self.repositories.iter().map(|repository| repository.blobs.len()).sum();
        let manifests: usize = self.repositories.iter().map(|repository| repository.manifests.len()).sum();
        let puts: usize = self.repositories.iter().map(|repository| repository.puts().len()).sum();
        3 * self.blobs.len() + (placed - self.blobs.len()) + manifests + puts
    }
}

impl Repository {
    /// Returns each manifest with the references that a client must write: the tags, or the digest if there is no tag.
    /// The manifests of an index come before the index.
    pub(crate) fn puts(&self) -> Vec<(&Manifest, String)> {
        let mut puts = Vec::new();
        for manifest in &self.manifests {
            let tags = self.tags.iter().filter(|(_, digest)| **digest == manifest.digest);
            let before = puts.len();
            puts.extend(tags.map(|(tag, _)| (manifest, tag.clone())));
            if puts.len() == before {
                puts.push((manifest, manifest.digest.clone()));
            }
        }
        puts
    }
}

/// Generates a registry: 25 repositories, 137 tags, two platforms, shared base layers, signatures, SBOMs under fallback
/// tags, a chart, and 535 different blobs. `scale` multiplies the sizes of the blobs.
pub(crate) fn registry(seed: u64, scale: f64) -> Corpus {
    Registry { corpus: Corpus::default(), sizes: layer_sizes(seed), seed: seed << 16, scale }.build()
}

/// Numbers of repositories with images, of images (indexes with two platforms), of signatures and of SBOMs.
const IMAGE_REPOSITORIES: usize = 24;
const IMAGES: usize = 36;
const SIGNATURES: usize = 19;
const SBOMS: usize = 8;
/// Number of layers that are not base layers.
const OWN_LAYERS: usize = 402;
/// Size of all base layers: 24 MB for each platform.
const BASE_BYTES: f64 = 48.0e6;

struct Registry {
    corpus: Corpus,
    /// Sizes of the layers that the generator still has to add.
    sizes: Vec<f64>,
    seed: u64,
    scale: f64,
}

/// Generates layer sizes. Most layers are small, and a few layers are large. The largest layer is about 400 times
/// larger than the smallest layer.
fn layer_sizes(seed: u64) -> Vec<f64> {
    let mut random = Random(seed);
    let weights: Vec<f64> = (0..OWN_LAYERS).map(|_| (random.fraction() * 6.0).exp()).collect();
    let unit = (BYTES_AT_SCALE_1 - BASE_BYTES) / weights.iter().sum::<f64>();
    weights.into_iter().map(|weight| weight * unit).collect()
}

impl Registry {
    fn build(mut self) -> Corpus {
        let mut image = 0;
        for number in 0..IMAGE_REPOSITORIES {
            let mut repository =
                Repository::new(format!("team-{}/service-{number:02}", ["a", "b", "c", "d"][number % 4]));
            let versions = if number % 2 == 0 { 2 } else { 1 };
            for version in 1..=versions {
                self.add_image(&mut repository, number, version, version == versions, image);
                image += 1;
            }
            self.corpus.repositories.push(repository);
        }
        debug_assert_eq!(image, IMAGES, "the repositories have the stated number of images");
        let chart = self.chart();
        self.corpus.repositories.push(chart);
        self.corpus
    }

    fn random_blob(&mut self, repository: &mut Repository, size: f64, media_type: &str) -> Value {
        self.seed += 1;
        self.corpus.add_random(repository, self.seed, (size * self.scale).max(32.0) as u64, media_type)
    }

    fn add_image(&mut self, repository: &mut Repository, number: usize, version: usize, is_latest: bool, image: usize) {
        let mut children = Vec::new();
        for (at, architecture) in PLATFORMS.into_iter().enumerate() {
            let mut layers = self.base(repository, number % 3, at as u64);
            // The 72 manifests together use all generated layer sizes.
            let own = if (2 * image + at) < 42 { 6 } else { 5 };
            for _ in 0..own {
                let size = self.sizes.pop().unwrap_or_default();
                layers.push(self.random_blob(repository, size, LAYER));
            }
            let config = json!({
                "architecture": architecture, "os": "linux", "created": "2024-01-01T00:00:00Z",
                "config": {"Labels": {"image": format!("{}-{version}", repository.name), "padding": "x".repeat(2000)}},
            });
            let config = self.corpus.add_literal(repository, config.to_string(), CONFIG);
            let mut child = Corpus::image(repository, &config, &layers, json!({}));
            child["platform"] = json!({"architecture": architecture, "os": "linux"});
            children.push(child);
        }
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        let needs = children.iter().map(|child| text(child, "digest")).collect();
        let digest = text(&repository.add_manifest(&body, needs), "digest");
        for tag in [format!("{version}.{image}.0"), format!("{version}.{image}"), format!("v{version}")] {
            repository.tags.insert(tag, digest.clone());
        }
        if number == 0 && is_latest {
            repository.tags.insert("latest".into(), digest.clone());
        }
        if image < SIGNATURES {
            self.sign(repository, &digest);
        }
        if is_latest && (number as u64).is_multiple_of(3) && number / 3 < SBOMS {
            self.describe(repository, &digest, &body);
        }
    }

    /// Adds the two base layers. Many repositories contain the same base layers.
    fn base(&mut self, repository: &mut Repository, base: usize, platform: u64) -> Vec<Value> {
        let sizes = [[9.0e6, 2.0e6], [6.0e6, 3.0e6], [2.5e6, 1.5e6]][base];
        let seed = (base as u64 + 1) << 48 | platform << 40;
        let blob = |at: usize| (seed | at as u64, (sizes[at] * self.scale).max(32.0) as u64);
        let blobs = [blob(0), blob(1)];
        blobs.into_iter().map(|(seed, size)| self.corpus.add_random(repository, seed, size, LAYER)).collect()
    }

    /// Adds a signature in the form of cosign. The tag of the signature contains the digest of the image.
    fn sign(&mut self, repository: &mut Repository, digest: &str) {
        let payload = format!("{{\"critical\":{{\"image\":{{\"docker-manifest-digest\":\"{digest}\"}}}}}}");
        let layer = self.corpus.add_literal(repository, payload, "application/vnd.dev.cosign.simplesigning.v1+json");
        let config = format!("{{\"signature-of\":\"{digest}\"}}");
        let config = self.corpus.add_literal(repository, config, CONFIG);
        let signature = Corpus::image(repository, &config, &[layer], json!({}));
        repository.tags.insert(format!("{}.sig", digest.replace(':', "-")), text(&signature, "digest"));
    }

    /// Adds an SBOM whose subject is the image. Also adds the list of referrers, under the fallback tag of the image.
    fn describe(&mut self, repository: &mut Repository, digest: &str, subject: &Value) {
        let kind = "application/spdx+json";
        let sbom = self.random_blob(repository, 120e3, kind);
        let empty = self.corpus.add_literal(repository, "{}", "application/vnd.oci.empty.v1+json");
        let subject = json!({"mediaType": INDEX, "digest": digest, "size": subject.to_string().len()});
        let more = json!({"artifactType": kind, "subject": subject});
        let mut referrer = Corpus::image(repository, &empty, &[sbom], more);
        referrer["artifactType"] = kind.into();
        let needs = vec![text(&referrer, "digest")];
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer]});
        let list = repository.add_manifest(&list, needs);
        repository.tags.insert(digest.replace(':', "-"), text(&list, "digest"));
    }

    fn chart(&mut self) -> Repository {
        let mut repository = Repository::new("charts/site");
        let config = "{\"apiVersion\":\"v2\",\"name\":\"site\",\"version\":\"1.0.0\"}";
        let config = self.corpus.add_literal(&mut repository, config, "application/vnd.cncf.helm.config.v1+json");
        let kind = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
        let chart = self.random_blob(&mut repository, 20e3, kind);
        let chart = Corpus::image(&mut repository, &config, &[chart], json!({}));
        repository.tags.insert("1.0.0".into(), text(&chart, "digest"));
        repository
    }
}

/// Generates many small tags. Each repository has 25 tags, and all tags share the same two blobs.
pub(crate) fn many_tags(tags: usize) -> Corpus {
    let mut corpus = Corpus::default();
    for number in 0..tags.div_ceil(25) {
        let mut repository = Repository::new(format!("many/repository-{number:03}"));
        let config = corpus.add_literal(&mut repository, "{\"os\":\"linux\",\"architecture\":\"amd64\"}", CONFIG);
        let layer = corpus.add_random(&mut repository, 77, 4096, LAYER);
        for tag in 0..25.min(tags - 25 * number) {
            let name = format!("1.{tag}.0");
            let more = json!({"annotations": {"name": format!("{number}/{name}")}});
            let image = Corpus::image(&mut repository, &config, std::slice::from_ref(&layer), more);
            repository.tags.insert(name, text(&image, "digest"));
        }
        corpus.repositories.push(repository);
    }
    corpus
}

/// Generates one repository with 40 tags. All tags share the same eight layers.
pub(crate) fn forty_tags(scale: f64) -> Corpus {
    let mut corpus = Corpus::default();
    let mut repository = Repository::new("shared/forty");
    let sizes = [16e6, 12e6, 8e6, 6e6, 4e6, 2e6, 1e6, 0.5e6].map(|size: f64| (size * scale).max(1000.0) as u64);
    let layers: Vec<Value> =
        (0..8).map(|at| corpus.add_random(&mut repository, 900 + at as u64, sizes[at], LAYER)).collect();
    for tag in 0..40 {
        let config = corpus.add_literal(&mut repository, format!("{{\"os\":\"linux\",\"tag\":{tag}}}"), CONFIG);
        let image = Corpus::image(&mut repository, &config, &layers, json!({}));
        repository.tags.insert(format!("1.{tag}"), text(&image, "digest"));
    }
    corpus.repositories.push(repository);
    corpus
}

/// Generates one tag with one layer of `size` bytes.
pub(crate) fn big_blob(size: u64) -> Corpus {
    let mut corpus = Corpus::default();
    let mut repository = Repository::new("large/model");
    let layer = corpus.add_random(&mut repository, 4242, size, LAYER);
    let config = corpus.add_literal(&mut repository, "{\"os\":\"linux\",\"model\":true}", CONFIG);
    let image = Corpus::image(&mut repository, &config, &[layer], json!({}));
    repository.tags.insert("1".into(), text(&image, "digest"));
    corpus.repositories.push(repository);
    corpus
}

/// Adds an SBOM to the first image that has a list of referrers. Returns the index of the repository and the digest of
/// the SBOM.
pub(crate) fn add_referrer(corpus: &mut Corpus) -> Option<(usize, String)> {
    let is_list = |tag: &str| tag.strip_prefix("sha256-").is_some_and(|hex| hex.len() == 64);
    let at = corpus.repositories.iter().position(|repository| repository.tags.keys().any(|tag| is_list(tag)))?;
    let mut repository = corpus.repositories[at].clone();
    let (tag, old) =
        repository.tags.iter().find(|(tag, _)| is_list(tag)).map(|(tag, old)| (tag.clone(), old.clone()))?;
    let bytes = repository.manifests.iter().find(|manifest| manifest.digest == old)?.bytes.clone();
    let mut list: Value = serde_json::from_slice(&bytes).ok()?;
    let subject = repository.manifests.iter().find(|manifest| manifest.digest == tag.replace('-', ":"))?.clone();
    let report = corpus.add_literal(&mut repository, "{\"findings\":[]}", "application/sarif+json");
    let empty = corpus.add_literal(&mut repository, "{}", "application/vnd.oci.empty.v1+json");
    let subject = json!({"mediaType": INDEX, "digest": subject.digest, "size": subject.bytes.len()});
    let more = json!({"artifactType": "application/sarif+json", "subject": subject});
    let mut referrer = Corpus::image(&mut repository, &empty, &[report], more);
    referrer["artifactType"] = "application/sarif+json".into();
    let digest = text(&referrer, "digest");
    list["manifests"].as_array_mut()?.push(referrer);
    let list = repository.add_manifest(&list, vec![digest.clone()]);
    repository.tags.insert(tag, text(&list, "digest"));
    corpus.repositories[at] = repository;
    Some((at, digest))
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
