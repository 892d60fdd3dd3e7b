//! `transship schema`: the JSON Schema of `sync.yaml`, by which editors complete and check it, or that of `/status`.

use clap::ValueEnum;

use super::exit::{Exit, Failure};
use super::start::Context;

/// The arguments of `transship schema`.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Of what: the configuration, or what the status port answers at /status
    #[arg(value_enum, default_value_t, hide_default_value = true)]
    pub of: Of,
}

/// What there is a schema of.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Of {
    /// `sync.yaml`
    #[default]
    Configuration,
    /// `/status`
    Status,
}

impl Schema {
    pub(super) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        match self.of {
            Of::Configuration => context.output.json(&crate::config::schema())?,
            Of::Status => context.output.line(crate::status::SCHEMA.trim_end())?,
        }
        Ok(Exit::Ok)
    }
}
