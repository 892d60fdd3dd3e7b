//! Command `transship tags ENDPOINT`: prints the tag map of one repository.

use anyhow::anyhow;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::cli::context::connection::Connection;
use crate::cli::context::invocation::Context;
use crate::cli::context::location::ContentLocation;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::table::{Cell, Column, Table};
use crate::cli::output::units;
use crate::cli::output::writer::Output;
use crate::oci::{Digest, ManifestRef, Tag};
use crate::plan::sort_newest_first;
use crate::store::{Source, StoreError, TagEntry};

/// Number of tags that are resolved concurrently. The registry's own limits apply as well.
const CONCURRENT_LOOKUPS: usize = 16;

/// Arguments of `transship tags`.
#[derive(Debug, clap::Args)]
pub struct Tags {
    /// Repository: [host/]repository, oci-layout:PATH or oci-archive:PATH
    #[arg(value_name = "ENDPOINT")]
    pub endpoint: ContentLocation,
    /// Show only the names, without looking up digests
    #[arg(long)]
    pub names: bool,
    /// Connection options.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Line of the tag map.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct TagLine {
    tag: Tag,
    /// Digest of the tag. `None` if it was not looked up, or if the tag disappeared meanwhile.
    digest: Option<Digest>,
}

impl Tags {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        if self.endpoint.manifest.is_some() {
            return Err(Failure::usage(anyhow!("{} is one manifest: name the repository alone", self.endpoint)));
        }
        let source = self.connection.source(&self.endpoint, context)?;
        let host = self.connection.host_with_flags(self.endpoint.repository.host());
        self.print(&*source, &mut context.output).await.map_err(|failure| failure.name_flags(host))?;
        Ok(Exit::Ok)
    }

    async fn print(&self, source: &dyn Source, output: &mut Output) -> Result<(), Failure> {
        let lines = tag_map(source, !self.names).await?;
        if self.json {
            output.json(&lines)?;
            return Ok(());
        }
        if self.names {
            return Ok(lines.iter().try_for_each(|line| output.line(&line.tag))?);
        }
        let mut table = Table::new(&[Column::left("TAG"), Column::digest("DIGEST")]);
        for line in lines {
            let digest = line.digest.as_ref().map_or_else(|| "gone".into(), Cell::digest);
            table.row([Cell::shortened(line.tag.to_string(), units::tag_name(&line.tag)), digest]);
        }
        Ok(output.table(&table)?)
    }
}

/// Returns all tags, the newest version first, and the tags of signatures last. Tags that are listed without a digest
/// are resolved one by one.
async fn tag_map(source: &dyn Source, with_digests: bool) -> Result<Vec<TagLine>, StoreError> {
    let listed = source.tags().filter_map(async |entry| match entry {
        Ok(TagEntry::Tag(tag, digest) | TagEntry::Locked(tag, digest)) => Some(Ok((tag, digest))),
        Ok(TagEntry::Unusable(name)) => {
            tracing::warn!(name, "skipped a listed name that is not a valid tag");
            None
        }
        Ok(TagEntry::Skipped(what)) => {
            tracing::warn!("skipped: {what}");
            None
        }
        Err(error) => Some(Err(error)),
    });
    let resolved = listed.map(async |entry| {
        let (tag, mut digest) = entry?;
        if digest.is_none() && with_digests {
            let reference = ManifestRef::Tag(tag.clone());
            digest = source.resolve(&reference).await?.map(|descriptor| descriptor.digest);
        }
        Ok(TagLine { tag, digest })
    });
    let mut lines: Vec<TagLine> = resolved.buffered(CONCURRENT_LOOKUPS).try_collect().await?;
    sort_newest_first(&mut lines, |line| &line.tag);
    Ok(lines)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;
    use crate::layout::Layout;
    use crate::oci::{Descriptor, Manifest, MediaType};
    use crate::store::{Target as _, UploadStart, Verified};

    pub(crate) async fn push_manifest(layout: &Arc<Layout>, json: &serde_json::Value, tag: Option<&str>) -> Descriptor {
        let media_type = MediaType::new(json["mediaType"].as_str().unwrap());
        let manifest = Manifest::new(media_type, json.to_string().into());
        let tag = tag.map(|tag| tag.parse().unwrap());
        layout.push_manifest(&manifest, tag.as_ref()).await.unwrap();
        manifest.descriptor()
    }

    /// Creates a layout with one image for each tag. Configuration and layer contain the tag's name.
    pub(crate) async fn layout_of(path: &Path, tags: &[&str]) -> Arc<Layout> {
        let layout = Layout::open(path);
        for tag in tags {
            let bytes = bytes::Bytes::copy_from_slice(tag.as_bytes());
            let blob = Descriptor::new(MediaType::new("x"), Digest::of(&bytes), bytes.len() as u64);
            let UploadStart::Session(upload) = layout.begin_upload(&blob, None).await.unwrap() else { panic!() };
            let stream = futures_util::stream::iter([Ok(bytes)]).boxed();
            upload.send(Verified::new(stream, blob.clone(), "test")).await.unwrap();
            let content = |kind: &str| serde_json::json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
            let image = serde_json::json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
                "config": content("application/vnd.oci.image.config.v1+json"),
                "layers": [content("application/vnd.oci.image.layer.v1.tar")],
            });
            push_manifest(&layout, &image, Some(tag)).await;
        }
        layout
    }

    async fn printed(names: bool, json: bool, source: &dyn Source) -> String {
        let buffer = OutputBuffer::default();
        let endpoint = "oci-layout:x".parse().unwrap();
        let tags = Tags { endpoint, names, connection: Connection::default(), json };
        tags.print(source, &mut buffer.output()).await.unwrap();
        buffer.text()
    }

    #[tokio::test]
    async fn tag_map_is_printed_as_table_names_or_json() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout_of(folder.path(), &["v1", "latest"]).await;
        let digest = async |tag: &str| {
            layout.resolve(&ManifestRef::Tag(tag.parse().unwrap())).await.unwrap().unwrap().digest.to_string()
        };
        let (v1, latest) = (digest("v1").await, digest("latest").await);
        assert_eq!(printed(false, false, &*layout).await, format!("TAG\tDIGEST\nv1\t{v1}\nlatest\t{latest}\n"));
        assert_eq!(printed(true, false, &*layout).await, "v1\nlatest\n");
        let json: Vec<serde_json::Value> = serde_json::from_str(&printed(false, true, &*layout).await).unwrap();
        assert!(json.contains(&serde_json::json!({"tag": "v1", "digest": v1})), "{json:?}");
    }

    #[tokio::test]
    async fn tags_are_listed_with_the_newest_version_first() {
        let folder = tempfile::tempdir().unwrap();
        let signature = format!("sha256-{}.sig", Digest::of(b"x").hex());
        let layout = layout_of(folder.path(), &["1.1.0", "latest", &signature, "1.0.0", "1.10.0", "1.2.0"]).await;
        let expected = format!("1.10.0\n1.2.0\n1.1.0\n1.0.0\nlatest\n{signature}\n");
        assert_eq!(printed(true, false, &*layout).await, expected);
    }

    #[tokio::test]
    async fn missing_repository_is_an_error_and_not_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(&folder.path().join("nothing"));
        assert!(tag_map(&*layout, true).await.is_err());
    }
}
