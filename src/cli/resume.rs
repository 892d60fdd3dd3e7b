//! `transship resume ENTRY…`: ends the pauses of entries. It only asks the daemon; it starts no run by itself.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::start::Context;
use super::trigger;
use crate::control::Request;

/// The arguments of `transship resume`.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The entries. What they would have begun during the pause is not made up for
    #[arg(value_name = "ENTRY", required = true)]
    pub entries: Vec<String>,
    /// The control socket; by default where the configuration says, else that of the packaged service
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Resume {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let request = Request::Resume { entries: trigger::once_each(&self.entries) };
        trigger::perform(self.at.as_deref(), request, self.json, trigger::NOBODY, context).await
    }
}
