//! Command `transship pause ENTRY…`: stops the scheduled runs of entries, until they are resumed or for a limited time.
//! The command only sends a request to the daemon, and the daemon records the pause in its journal. A pause does not
//! affect the commands `once` and `copy`.

use std::time::Duration;

use chrono::{TimeDelta, Utc};

use crate::cli::context::control_client::{DaemonArguments, ExplicitEntries, NO_DAEMON_REMEDY};
use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};
use crate::control::{Action, PauseOptions};

/// Arguments of `transship pause`.
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// Entries to act on.
    #[command(flatten)]
    pub entries: ExplicitEntries,
    /// Length of the pause, such as 2h [default: until `transship resume`]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub lasting: Option<Duration>,
    /// Arguments of every command for the running daemon.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

impl Pause {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        // A pause whose end cannot be represented has no end.
        let end = |lasting| Utc::now().checked_add_signed(TimeDelta::from_std(lasting).ok()?);
        let action = Action::Pause(PauseOptions { until: self.lasting.and_then(end) });
        self.daemon.request(action, &self.entries, NO_DAEMON_REMEDY, context).await
    }
}
