//! `transship pause ENTRY…`: lets entries begin no runs by themselves, until they are resumed or for a time. It only asks the daemon,
//! which keeps the pause in its journal; `once` and `copy` by hand are not held up.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use super::exit::{Exit, Failure};
use super::start::Context;
use super::trigger;
use crate::control::Request;

/// The arguments of `transship pause`.
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// The entries. A run under way finishes the tags that it is at, and goes on when the pause ends
    #[arg(value_name = "ENTRY", required = true)]
    pub entries: Vec<String>,
    /// For how long, like 2h; by default until `transship resume`
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub lasting: Option<Duration>,
    /// The control socket; by default where the configuration says, else that of the packaged service
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Pause {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        // One that is too long to be told has no end.
        let end = |lasting| Utc::now().checked_add_signed(TimeDelta::from_std(lasting).ok()?);
        let request = Request::Pause { entries: trigger::once_each(&self.entries), until: self.lasting.and_then(end) };
        trigger::perform(self.at.as_deref(), request, self.json, trigger::NOBODY, context).await
    }
}
