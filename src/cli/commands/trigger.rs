//! Command `transship trigger ENTRY…`: requests runs from the running daemon through its control socket.

use crate::cli::context::control_client::{self, DaemonArguments};
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::control::{Action, TriggerOptions};

/// Arguments of `transship trigger`.
#[derive(Debug, clap::Args)]
pub struct Trigger {
    /// Entries to run
    #[arg(value_name = "ENTRY", required = true, value_parser = control_client::entry_name())]
    pub entries: Vec<String>,
    /// Wait until the runs have ended, and exit as `once` does; Ctrl-C ends the wait but not the runs
    #[arg(long)]
    pub wait: bool,
    /// Arguments of every command for the running daemon.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

impl Trigger {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let entries = control_client::deduplicate(&self.entries);
        let once = entries.join(" ");
        let remedy = format!("start it with `transship run`, or run without a daemon: `transship once {once}`");
        let action = Action::Trigger(TriggerOptions { wait: self.wait });
        self.daemon.request(action, &entries, &remedy, context).await
    }
}
