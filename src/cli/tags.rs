//! `transship tags ENDPOINT`: the tag map of one repository.

use futures_util::StreamExt as _;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::place::Place;
use super::start::Context;
use super::table::{Align, Table};
use crate::oci::{Digest, ManifestRef, Tag};
use crate::store::{Source, StoreError, TagEntry};

/// How many tags are resolved at once. The registry's own limits apply below this.
const AT_ONCE: usize = 16;

/// The arguments of `transship tags`.
#[derive(Debug, clap::Args)]
pub struct Tags {
    /// The repository: [host/]repository or oci-layout:PATH
    #[arg(value_name = "ENDPOINT")]
    pub endpoint: Place,
    /// Show the names only, without asking for digests
    #[arg(long)]
    pub names: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One line of the tag map.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    tag: Tag,
    /// `None` where it was not asked for, or where the tag went away meanwhile.
    digest: Option<Digest>,
}

impl Tags {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let _ = (self, context);
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
        let mut table = Table::new(&[("TAG", Align::Left), ("DIGEST", Align::Left)]);
        for line in lines {
            let digest = line.digest.map_or_else(|| "gone".to_owned(), |digest| digest.to_string());
            table.row([line.tag.to_string(), digest]);
        }
        Ok(output.table(&table)?)
    }
}

/// All tags in the order of the listing, those without a digest resolved one by one.
async fn tag_map(source: &dyn Source, with_digests: bool) -> Result<Vec<Line>, StoreError> {
    let listed = source.tags().filter_map(async |entry| match entry {
        Ok(TagEntry::Tag(tag, digest)) => Some(Ok((tag, digest))),
        Ok(TagEntry::Unusable(name)) => {
            tracing::warn!(name, "skipped: it is listed as a tag and is none");
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
        Ok(Line { tag, digest })
    });
    let lines: Vec<Result<Line, StoreError>> = resolved.buffered(AT_ONCE).collect().await;
    lines.into_iter().collect()
}
