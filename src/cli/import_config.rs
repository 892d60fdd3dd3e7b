//! `transship import-config FILE`: another program's configuration, told in our words.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::exit::{Exit, Failure};
use super::output;
use super::start::Context;
use crate::import::{Form, ImportError, Imported, Order, import};

/// The arguments of `transship import-config`.
#[derive(Debug, clap::Args)]
pub struct ImportConfig {
    /// The configuration of regsync, or the YAML of `skopeo sync`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose configuration it is [default: told from its keys]
    #[arg(long, value_name = "PROGRAM", value_enum)]
    pub from: Option<From>,
    /// Where to copy to, HOST or HOST/PREFIX, as on the command line of `skopeo sync`
    #[arg(long, value_name = "PREFIX")]
    pub target: Option<String>,
    /// Put the whole name of the source behind the target, as `skopeo sync --scoped` does
    #[arg(long)]
    pub scoped: bool,
    /// Write to this file, which must not exist yet [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The programs whose configurations are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// regclient's regsync
    Regsync,
    /// `skopeo sync --src yaml`
    Skopeo,
}

impl ImportConfig {
    pub(super) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let form = self.from.map(|from| match from {
            From::Regsync => Form::Regsync,
            From::Skopeo => Form::Skopeo,
        });
        let order = Order { form, target: self.target, scoped: self.scoped };
        let imported = import(&self.file, &order).map_err(|error| match error {
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
        tell(&imported);
        // What is not understood may have changed what is copied.
        Ok(if imported.left_out + imported.unknown > 0 { Exit::Held } else { Exit::Ok })
    }
}

/// What has no equal, and the sum of it, for the person at the keyboard.
fn tell(imported: &Imported) {
    for remark in &imported.remarks {
        output::complain(format!("{}:{}:{}: {}", remark.file, remark.line, remark.column, remark.message));
    }
    let Imported { entries, left_out, unknown, .. } = imported;
    let remarks = imported.remarks.len() + imported.more_remarks;
    output::complain(format!(
        "{}, {left_out} left out, {unknown} not understood, {}: see the comments, then `transship check`",
        counted(*entries, "entry", "entries"),
        counted(remarks, "remark", "remarks")
    ));
}

/// `1 entry`, `2 entries`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_counted_as_one() {
        let told = [0, 1, 2].map(|count| counted(count, "entry", "entries"));
        assert_eq!(told, ["0 entries", "1 entry", "2 entries"]);
    }
}
