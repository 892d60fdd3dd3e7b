//! `transship schema`: the JSON Schema of `sync.yaml`, by which editors complete and check it.

use super::exit::{Exit, Failure};
use super::start::Context;

/// The arguments of `transship schema`: none.
#[derive(Debug, clap::Args)]
pub struct Schema {}

impl Schema {
    pub(super) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        context.output.json(&crate::config::schema())?;
        Ok(Exit::Ok)
    }
}
