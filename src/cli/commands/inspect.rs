//! Command `transship inspect REFERENCE`: prints a manifest and all content below this manifest (the closure) as a
//! tree, with sizes.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;

use crate::cli::context::connection::Connection;
use crate::cli::context::invocation::Context;
use crate::cli::context::location::ContentLocation;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::oci::{Children, ContentKind, Descriptor, Digest, ManifestRef};
use crate::store::{Listed, Source};
use crate::sync::NearTags;

/// Maximum nesting depth of indexes and referrers. The command does not read deeper manifests.
const MAX_DEPTH: usize = 8;

/// Maximum number of manifests that the command reads.
const MAX_MANIFESTS: usize = 20_000;

/// Arguments of `transship inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// Manifest: [host/]repository[:tag][@digest], oci-layout:PATH[:TAG] or oci-archive:PATH[:TAG]; without a tag,
    /// `latest`
    #[arg(value_name = "REFERENCE")]
    pub reference: ContentLocation,
    /// Omit referrers (signatures, SBOMs)
    #[arg(long)]
    pub no_referrers: bool,
    /// Connection options.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Manifest and its closure.
#[derive(Debug, Serialize)]
struct Node {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Descriptor>,
    /// Children of an index that are blobs, not manifests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blobs: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Node>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    referrers: Vec<Node>,
    /// True if an earlier node of the tree has the same digest. Only the earlier node contains the children.
    #[serde(rename = "repeated", skip_serializing_if = "std::ops::Not::not")]
    is_repeated: bool,
    /// Reason why the closure could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Output of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    reference: String,
    #[serde(flatten)]
    root: Node,
    /// Size of the closure in bytes, with each digest counted once.
    closure_bytes: u64,
}

impl Inspect {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let source = self.connection.source(&self.reference, context)?;
        let host = self.connection.host_with_flags(self.reference.repository.host());
        self.print(&*source, &mut context.output).await.map_err(|failure| failure.name_flags(host))
    }

    async fn print(&self, source: &dyn Source, output: &mut Output) -> Result<Exit, Failure> {
        let chosen = self.reference.choose_manifest(source, "").await?;
        let reference = ContentLocation { manifest: Some(chosen.clone()), ..self.reference.clone() };
        let Some(descriptor) = source.resolve(&chosen).await? else {
            let near = match &chosen {
                ManifestRef::Tag(tag) => NearTags::default().describe_near(source, tag).await,
                ManifestRef::Digest(_) => String::new(),
            };
            return Err(anyhow::anyhow!("{reference}: there is no such manifest{near}").into());
        };
        let root = Walk::new(source, !self.no_referrers).read(descriptor, MAX_DEPTH).await;
        let broken = root.is_broken();
        let mut counted = HashSet::new();
        let closure_bytes = root.bytes(&mut counted);
        if self.json {
            output.json(&Report { reference: reference.to_string(), root, closure_bytes })?;
        } else {
            output.line(&reference)?;
            root.draw("", "", "", output)?;
            output.line(format!("{} in all, each digest counted once", units::bytes(closure_bytes)))?;
        }
        Ok(if broken { Exit::Failed } else { Exit::Ok })
    }
}

/// Walk over a closure. The walk reads each digest once, even if several manifests list the digest.
struct Walk<'a> {
    source: &'a dyn Source,
    with_referrers: bool,
    /// Digests of the manifests that the walk has started to read.
    seen: Mutex<HashSet<Digest>>,
}

impl<'a> Walk<'a> {
    fn new(source: &'a dyn Source, with_referrers: bool) -> Self {
        Self { source, with_referrers, seen: Mutex::default() }
    }

    /// Reads a manifest and its closure. If the manifest cannot be read, the node contains the reason in `problem`.
    fn read(&self, descriptor: Descriptor, depth: usize) -> BoxFuture<'_, Node> {
        Box::pin(async move {
            let mut node = Node::new(descriptor);
            let (is_new, count) = {
                let mut seen = self.seen.lock();
                (seen.insert(node.descriptor.digest), seen.len())
            };
            if !is_new {
                node.is_repeated = true;
                return node;
            }
            if depth == 0 {
                node.problem = Some(format!("nested deeper than {MAX_DEPTH} levels"));
                return node;
            }
            if count > MAX_MANIFESTS {
                node.problem = Some(format!("not read: the closure has more than {MAX_MANIFESTS} manifests"));
                return node;
            }
            if let Err(problem) = self.read_children(&mut node, depth).await {
                node.problem = Some(problem);
            }
            if self.with_referrers {
                match self.source.referrers(&node.descriptor.digest, Listed::Possible).await {
                    Ok(found) => {
                        node.problem = node.problem.or(found.doubt);
                        for referrer in found.manifests {
                            node.referrers.push(self.read(referrer, depth - 1).await);
                        }
                    }
                    Err(error) => node.problem = Some(error.to_string()),
                }
            }
            node
        })
    }

    async fn read_children(&self, node: &mut Node, depth: usize) -> Result<(), String> {
        let reference = ManifestRef::Digest(node.descriptor.digest);
        let manifest = self.source.manifest(&reference).await.map_err(|error| error.to_string())?;
        let view = manifest.view().map_err(|error| error.to_string())?;
        node.descriptor.artifact_type = node.descriptor.artifact_type.take().or(view.artifact_type);
        node.subject = view.subject;
        match view.children {
            Children::Blobs { config, layers } => (node.config, node.layers) = (config, layers),
            Children::Manifests(children) => {
                for child in children {
                    match child.kind() {
                        ContentKind::Blob => node.blobs.push(child),
                        ContentKind::Unknown if self.is_blob(&child).await => node.blobs.push(child),
                        _ => node.manifests.push(self.read(child, depth - 1).await),
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns true if the source has no manifest with the digest of this child: the child is then a blob. If the
    /// request fails, returns false. The caller then reads the child as a manifest and shows the failure.
    async fn is_blob(&self, child: &Descriptor) -> bool {
        let is_seen = self.seen.lock().contains(&child.digest);
        !is_seen && matches!(self.source.resolve(&child.digest.into()).await, Ok(None))
    }
}

impl Node {
    fn new(descriptor: Descriptor) -> Self {
        Self {
            descriptor,
            subject: None,
            config: None,
            layers: Vec::new(),
            blobs: Vec::new(),
            is_repeated: false,
            manifests: Vec::new(),
            referrers: Vec::new(),
            problem: None,
        }
    }

    fn is_broken(&self) -> bool {
        self.problem.is_some() || self.manifests.iter().chain(&self.referrers).any(Self::is_broken)
    }

    /// Returns the size of the closure in bytes, without foreign layers and without the digests in `counted`. Adds all
    /// other digests to `counted`.
    fn bytes(&self, counted: &mut HashSet<Digest>) -> u64 {
        let mut bytes = 0;
        let blobs = self.config.iter().chain(&self.layers).chain(&self.blobs).filter(|blob| !blob.is_foreign());
        for content in std::iter::once(&self.descriptor).chain(blobs) {
            if counted.insert(content.digest) {
                bytes += content.size;
            }
        }
        bytes + self.manifests.iter().chain(&self.referrers).map(|child| child.bytes(counted)).sum::<u64>()
    }

    /// Returns the artifact type. If the config blob has the same media type, returns `None`.
    fn kind(&self) -> Option<&str> {
        let config = self.config.as_ref().map(|config| config.media_type.as_str());
        self.descriptor.artifact_type.as_deref().filter(|kind| config != Some(*kind))
    }

    fn draw(&self, lead: &str, below: &str, role: &str, output: &mut Output) -> std::io::Result<()> {
        let platform = self.descriptor.platform.as_ref().map(|platform| format!("{platform} ")).unwrap_or_default();
        let kind = self.kind().map(|kind| format!(" of {kind}")).unwrap_or_default();
        let repeated = if self.is_repeated { ", shown above" } else { "" };
        output.line(format!("{lead}{role}{platform}{}{kind}{repeated}", describe(&self.descriptor)))?;
        if let Some(problem) = &self.problem {
            output.line(format!("{below}   {problem}"))?;
        }
        let blobs = self.config.iter().map(|config| ("config ", config));
        let blobs = blobs.chain(self.layers.iter().map(|layer| ("layer ", layer)));
        let blobs: Vec<_> = blobs.chain(self.blobs.iter().map(|blob| ("blob ", blob))).collect();
        let manifests = self.manifests.iter().map(|child| ("", child));
        let manifests: Vec<_> = manifests.chain(self.referrers.iter().map(|child| ("referrer ", child))).collect();
        let count = blobs.len() + manifests.len();
        for (at, (role, blob)) in blobs.iter().enumerate() {
            let (branch, _) = branches(at + 1 == count);
            output.line(format!("{below}{branch}{role}{}", describe(blob)))?;
        }
        for (at, (role, child)) in manifests.iter().enumerate() {
            let (branch, further) = branches(blobs.len() + at + 1 == count);
            child.draw(&format!("{below}{branch}"), &format!("{below}{further}"), role, output)?;
        }
        Ok(())
    }
}

fn describe(content: &Descriptor) -> String {
    let foreign = if content.is_foreign() { ", stored elsewhere, copied only with `foreign_layers: copy`" } else { "" };
    format!("{} {} {}{foreign}", content.digest, units::bytes(content.size), content.media_type)
}

fn branches(last: bool) -> (&'static str, &'static str) {
    if last { ("└─ ", "   ") } else { ("├─ ", "│  ") }
}

#[cfg(test)]
mod tests {
    use super::super::tags::tests::{layout_of, push_manifest};
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;

    fn inspect(reference: String, json: bool) -> Inspect {
        let connection = Connection::default();
        Inspect { reference: reference.parse().unwrap(), no_referrers: false, connection, json }
    }

    async fn printed(inspect: &Inspect, source: &dyn Source) -> (Result<Exit, String>, String) {
        let buffer = OutputBuffer::default();
        let exit = inspect.print(source, &mut buffer.output()).await.map_err(|failure| failure.to_string());
        (exit, buffer.text())
    }

    #[tokio::test]
    async fn tree_shows_children_referrers_and_total_size() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout_of(folder.path(), &["v1"]).await;
        let image = layout.resolve(&ManifestRef::Tag("v1".parse().unwrap())).await.unwrap().unwrap();
        let config = Digest::of(b"v1");
        let signature = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/x-signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2}, "layers": [],
            "subject":
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": image.size},
        });
        let signature = push_manifest(&layout, &signature, None).await;
        let reference = format!("oci-layout:{}:v1", folder.path().display());
        let (exit, text) = printed(&inspect(reference.clone(), false), &*layout).await;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let expected = format!(
            "{reference}\n{} {} B {kind}\n\
             ├─ config {config} 2 B application/vnd.oci.image.config.v1+json\n\
             ├─ layer {config} 2 B application/vnd.oci.image.layer.v1.tar\n\
             └─ referrer {} {} B {kind} of application/x-signature\n   \
             └─ config {config} 2 B application/vnd.oci.empty.v1+json\n\
             {} B in all, each digest counted once\n",
            image.digest,
            image.size,
            signature.digest,
            signature.size,
            image.size + signature.size + 2,
        );
        assert_eq!((exit, text), (Ok(Exit::Ok), expected));
        let (_, json) = printed(&inspect(reference, true), &*layout).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["referrers"][0]["digest"], signature.digest.to_string());
        assert_eq!(json["layers"][0]["size"], 2);
    }

    #[tokio::test]
    async fn child_that_is_listed_thousands_of_times_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout_of(folder.path(), &["v1"]).await;
        let mut below = layout.resolve(&ManifestRef::Tag("v1".parse().unwrap())).await.unwrap().unwrap();
        for level in 0..6 {
            let entry = serde_json::json!({"mediaType": below.media_type, "digest": below.digest, "size": below.size});
            let tag = (level == 5).then_some("top");
            let index = serde_json::json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": vec![entry; 1000],
            });
            below = push_manifest(&layout, &index, tag).await;
        }
        let reference = format!("oci-layout:{}:top", folder.path().display());
        let (exit, text) = printed(&inspect(reference, false), &*layout).await;
        assert_eq!(exit, Ok(Exit::Ok));
        assert_eq!(text.matches(", shown above").count(), 6 * 999);
        assert_eq!(text.lines().count(), 1 + 1 + 6 * 1000 + 2 + 1);
    }

    #[tokio::test]
    async fn missing_manifest_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout_of(folder.path(), &["v1"]).await;
        let place = format!("oci-layout:{}", folder.path().display());
        let (exit, text) = printed(&inspect(place.clone(), false), &*layout).await;
        assert_eq!((exit, text.lines().next()), (Ok(Exit::Ok), Some(format!("{place}:v1").as_str())));
        let (exit, _) = printed(&inspect(format!("{place}:v2"), false), &*layout).await;
        assert_eq!(exit, Err(format!("error: {place}:v2: there is no such manifest; the nearest tag is v1")));
    }
}
