//! Command `transship trigger ENTRY…`: requests runs of entries from the running daemon, through the control socket.

use crate::cli::context::control_client::{DaemonArguments, ExplicitEntries};
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::control::{Action, TriggerOptions};

/// Arguments of `transship trigger`.
#[derive(Debug, clap::Args)]
pub struct Trigger {
    /// Entries to act on.
    #[command(flatten)]
    pub entries: ExplicitEntries,
    /// Wait until the runs end, and return the exit code of `once`; Ctrl-C ends only the wait
    #[arg(long)]
    pub wait: bool,
    /// Arguments of every command for the running daemon.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

impl Trigger {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let named: Vec<String> = self.entries.entries.iter().map(|pattern| format!(" {pattern}")).collect();
        let once = format!("transship once{}", named.concat());
        let remedy = format!(
            "start a daemon with `daemon.control` in its configuration, name its socket with --at, or run without a \
             daemon: `{once}`"
        );
        let action = Action::Trigger(TriggerOptions { wait: self.wait });
        self.daemon.request(action, &self.entries, &remedy, context).await
    }
}
