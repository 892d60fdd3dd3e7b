//! Command `transship resume ENTRY…`: ends the pauses of entries. The command only sends a request to the daemon, and
//! starts no run.

use crate::cli::context::control_client::{DaemonArguments, ExplicitEntries, NO_DAEMON_REMEDY};
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::control::{Action, ResumeOptions};

/// Arguments of `transship resume`.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// Entries to act on.
    #[command(flatten)]
    pub entries: ExplicitEntries,
    /// Arguments of every command for the running daemon.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

impl Resume {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let action = Action::Resume(ResumeOptions {});
        self.daemon.request(action, &self.entries, NO_DAEMON_REMEDY, context).await
    }
}
