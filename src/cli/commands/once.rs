//! Command `transship once [ENTRY…]`: runs the entries once, now, and prints the summary.

use std::sync::Arc;

use clap_complete::engine::ArgValueCompleter;

use crate::cli::context::entry_pattern::EntryPattern;
use crate::cli::context::invocation::Context;
use crate::cli::context::{completion, configuration, runner};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::summary;
use crate::journal::Journal;
use crate::sync::report_orphaned_intents;

/// Arguments of `transship once`.
#[derive(Debug, clap::Args)]
pub struct Once {
    /// Entries to run, by name or by glob ("app-*"); all by default
    #[arg(value_name = "ENTRY", add = ArgValueCompleter::new(completion::entries))]
    pub entries: Vec<EntryPattern>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Once {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let config = configuration::load(&context.global)?;
        configuration::warn(&config);
        let requests = runner::requests(&config, &self.entries)?;
        let journal = Journal::open(&config.daemon.journal)?;
        let entries: Vec<_> = config.entries.iter().cloned().map(Arc::new).collect();
        report_orphaned_intents(&journal, &entries).await;
        let engine = runner::engine(&config, Some(journal));
        let reports = runner::run_all(&engine, &requests, config.daemon.entries_at_once, context).await;
        if self.json {
            context.output.json(&reports)?;
        } else {
            reports.iter().try_for_each(|report| summary::print(report, &mut context.output))?;
        }
        // The interruption may have come before the first run started.
        Ok(if context.interrupted.is_cancelled() { Exit::Interrupted } else { summary::exit(&reports) })
    }
}
