//! Lists the tags of a repository with their digests.
//!
//! ```sh
//! cargo run --example list_tags -- docker.io/library/alpine
//! cargo run --example list_tags -- --plain-http localhost:5000/alpine
//! ```
//!
//! The program uses the credentials in docker's configuration.

use std::io::{Write as _, stderr, stdout};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use transship::oci::{Digest, ManifestRef, Reference, Tag};
use transship::registry::{Options, Registry};
use transship::store::{Source, StoreError, TagEntry};

/// Maximum number of concurrent requests for digests.
const LOOKUPS_AT_ONCE: usize = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let plain_http = arguments.next_if_eq("--plain-http").is_some();
    let text = arguments.next().context("usage: list_tags [--plain-http] REPOSITORY")?;
    let reference: Reference = text.parse()?;
    if reference.manifest().is_some() {
        bail!("{text} names a manifest: name only the repository");
    }
    let options = Options { plain_http, ..Options::unlisted(&|name| std::env::var(name).ok()) };
    let registry = Registry::new(reference.repository.host, options)?;
    let repository = registry.repository(reference.repository.name);

    let entries: Vec<TagEntry> = repository.tags().try_collect().await?;
    let mut tags = Vec::new();
    for entry in entries {
        match entry {
            TagEntry::Tag(tag, digest) | TagEntry::Locked(tag, digest) => tags.push((tag, digest)),
            TagEntry::Unusable(name) | TagEntry::Skipped(name) => writeln!(stderr(), "skipped: {name}")?,
        }
    }
    let mut resolved = futures_util::stream::iter(tags)
        .map(|(tag, digest)| with_digest(&repository, tag, digest))
        .buffered(LOOKUPS_AT_ONCE);
    while let Some((tag, digest)) = resolved.try_next().await? {
        match digest {
            Some(digest) => writeln!(stdout(), "{tag} {digest}")?,
            None => writeln!(stderr(), "{tag} was deleted meanwhile")?,
        }
    }
    Ok(())
}

/// Returns a tag with its digest. If `digest` is `None`, requests the digest from the registry.
async fn with_digest(
    source: &dyn Source,
    tag: Tag,
    digest: Option<Digest>,
) -> Result<(Tag, Option<Digest>), StoreError> {
    if digest.is_some() {
        return Ok((tag, digest));
    }
    let found = source.resolve(&ManifestRef::Tag(tag.clone())).await?;
    Ok((tag, found.map(|descriptor| descriptor.digest)))
}
