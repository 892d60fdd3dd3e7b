//! Command `transship pause ENTRY…`: stops the scheduled runs of entries, until they are resumed or for a limited
//! time. It only sends a request to the daemon, which keeps the pause in its journal. A pause does not affect the
//! commands `once` and `copy`.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use super::trigger;
use crate::cli::exit::{Exit, Failure};
use crate::cli::main::Context;
use crate::control::Request;

/// Arguments of `transship pause`.
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// Entries to pause. A run in progress finishes its current tags, and resumes when the pause ends
    #[arg(value_name = "ENTRY", required = true)]
    pub entries: Vec<String>,
    /// Length of the pause, such as 2h; by default until `transship resume`
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub lasting: Option<Duration>,
    /// Control socket; by default the configuration's, else that of the packaged service
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Pause {
    pub(crate) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        // A pause whose end cannot be represented has no end.
        let end = |lasting| Utc::now().checked_add_signed(TimeDelta::from_std(lasting).ok()?);
        let request =
            Request::Pause { entries: trigger::deduplicate(&self.entries), until: self.lasting.and_then(end) };
        trigger::perform(self.at.as_deref(), request, self.json, trigger::NO_DAEMON_REMEDY, context).await
    }
}
