//! `transship status`: what the daemon is doing, asked at its status port.

use super::exit::{Exit, Failure};
use super::start::Context;

/// The arguments of `transship status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Status {
    pub(super) async fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        let _ = (self, context);
        Ok(Exit::Ok)
    }
}
