//! Command `transship resume ENTRY…`: ends the pauses of entries. It only sends a request to the daemon and starts no
//! run.

use std::path::PathBuf;

use super::trigger;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;
use crate::control::Request;

/// Arguments of `transship resume`.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// Entries to resume. Scheduled runs during the pause are not caught up
    #[arg(value_name = "ENTRY", required = true)]
    pub entries: Vec<String>,
    /// Control socket; by default the configuration's, else that of the packaged service
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Resume {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let request = Request::Resume { entries: trigger::deduplicate(&self.entries) };
        trigger::perform(self.at.as_deref(), request, self.json, trigger::NO_DAEMON_REMEDY, context).await
    }
}
