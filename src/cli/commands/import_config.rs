//! Command `transship import-config FILE`: converts another program's configuration to a `sync.yaml`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::writer;
use crate::import::{ImportError, ImportOptions, Imported, Program, import};

/// Arguments of `transship import-config`.
#[derive(Debug, clap::Args)]
pub struct ImportConfig {
    /// Configuration of regsync, `skopeo sync`, image-syncer, dregsy or zot
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Program that the configuration belongs to [default: detected from its keys]
    #[arg(long, value_name = "PROGRAM", value_enum)]
    pub from: Option<From>,
    /// Target registry, HOST or HOST/PREFIX: as on the command line of `skopeo sync`, or the address of zot itself
    #[arg(long, value_name = "PREFIX")]
    pub target: Option<String>,
    /// Append the whole name of the source to the target, as `skopeo sync --scoped` does
    #[arg(long)]
    pub scoped: bool,
    /// File with the credentials: image-syncer's file of `--auth`, or zot's `credentialsFile`
    #[arg(long, value_name = "FILE")]
    pub auth: Option<PathBuf>,
    /// File to write, which must not exist yet [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Programs whose configurations can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// regclient's regsync
    Regsync,
    /// `skopeo sync --src yaml`
    Skopeo,
    /// Images of image-syncer, with or without authentication
    ImageSyncer,
    /// dregsy
    Dregsy,
    /// `sync` extension of zot
    Zot,
}

impl ImportConfig {
    pub(crate) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let form = self.from.map(|from| match from {
            From::Regsync => Program::Regsync,
            From::Skopeo => Program::Skopeo,
            From::ImageSyncer => Program::ImageSyncer,
            From::Dregsy => Program::Dregsy,
            From::Zot => Program::Zot,
        });
        let options = ImportOptions { form, target: self.target, scoped: self.scoped, auth: self.auth };
        let imported = import(&self.file, &options).map_err(|error| match error {
            ImportError::Problems(problems) => Failure::usage(problems),
            other => Failure::usage(other),
        })?;
        match &self.output {
            None => context.output.raw(imported.text.as_bytes())?,
            Some(path) => {
                let cannot = || format!("{} cannot be written", path.display());
                let mut file = std::fs::File::create_new(path).with_context(cannot)?;
                file.write_all(imported.text.as_bytes()).with_context(cannot)?;
            }
        }
        print_remarks(&imported);
        // Skipped entries and unknown keys may change the set of copied images, so the exit code is not 0.
        Ok(if imported.skipped + imported.unknown > 0 { Exit::Withheld } else { Exit::Ok })
    }
}

/// Prints the remarks about keys without an equivalent, and the numbers of remarks, to standard error.
fn print_remarks(imported: &Imported) {
    for remark in &imported.remarks {
        writer::print_error(format!("{}:{}:{}: {}", remark.file, remark.line, remark.column, remark.message));
    }
    let Imported { entries, skipped, unknown, .. } = imported;
    let remarks = imported.remarks.len() + imported.more_remarks;
    writer::print_error(format!(
        "{}, {skipped} skipped, {unknown} not understood, {}: read the comments, then run `transship check`",
        counted(*entries, "entry", "entries"),
        counted(remarks, "remark", "remarks")
    ));
}

fn counted(count: usize, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_of_one_has_a_singular_noun() {
        let texts = [0, 1, 2].map(|count| counted(count, "entry", "entries"));
        assert_eq!(texts, ["0 entries", "1 entry", "2 entries"]);
    }
}
