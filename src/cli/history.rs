//! `transship history`: the runs that the journal knows, the latest first.

use std::collections::HashSet;
use std::io;

use chrono::Utc;

use super::configuration;
use super::exit::{Exit, Failure};
use super::filter::Filter;
use super::output::Output;
use super::start::Context;
use super::table::{Align, Table};
use super::units;
use crate::journal::{EvidenceFilter, Journal, RunId, RunRecord};

/// The arguments of `transship history`.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Which runs.
    #[command(flatten)]
    pub filter: Filter,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl History {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let journal = configuration::journal(&self.filter, &context.global)?;
        let (now, window) = (Utc::now(), self.filter.window(!self.json));
        let mut runs = journal.history(&self.filter.of_runs(now, window)).await?;
        if let Some(brought) = self.brought(&journal).await? {
            runs.retain(|run| brought.contains(&run.id));
        }
        let more = window.cut(&mut runs);
        if self.json {
            context.output.json(&runs)?;
        } else {
            print(&runs, more, &mut context.output)?;
        }
        Ok(Exit::Ok)
    }
}

impl History {
    /// The runs that brought what is asked for, `None` where nothing in particular is.
    async fn brought(&self, journal: &Journal) -> Result<Option<HashSet<RunId>>, Failure> {
        if !self.filter.is_about_content() {
            return Ok(None);
        }
        let (reference, digest) = (self.filter.reference.clone(), self.filter.digest.clone());
        let wanted = EvidenceFilter { reference, digest, ..EvidenceFilter::default() };
        Ok(Some(journal.evidence(&wanted).await?.iter().map(|record| record.run).collect()))
    }
}

fn print(runs: &[RunRecord], more: bool, output: &mut Output) -> io::Result<()> {
    if runs.is_empty() {
        return output.line("no runs");
    }
    let mut table = Table::new(&[
        ("RUN", Align::Right),
        ("ENTRY", Align::Left),
        ("TRIGGER", Align::Left),
        ("STARTED", Align::Left),
        ("TOOK", Align::Left),
        ("OUTCOME", Align::Left),
        ("TAGS", Align::Left),
        ("BYTES", Align::Right),
    ]);
    for run in runs {
        table.row([
            run.id.to_string(),
            run.entry.clone(),
            run.trigger.word().to_owned(),
            units::moment(run.started),
            run.ended.map(|ended| units::between(run.started, ended)).unwrap_or_default(),
            run.outcome.map_or("running", |outcome| outcome.word()).to_owned(),
            run.tags.to_string(),
            units::bytes(run.bytes),
        ]);
    }
    output.table(&table)?;
    for run in runs {
        if let Some(error) = &run.error {
            output.line(format!("run {}: {error}", run.id))?;
        }
    }
    if more { output.line("there are earlier ones: --limit, --until or --json shows them") } else { Ok(()) }
}
