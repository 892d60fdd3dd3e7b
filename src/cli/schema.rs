//! `transship schema`: the JSON Schema of `sync.yaml`, by which editors complete and check it, that of `/status`, or that of a
//! notification. It changes nothing and reads no file.

use clap::ValueEnum;

use super::exit::{Exit, Failure};
use super::start::Context;

/// The JSON Schema of a notification's body, as it stands in the documents.
const NOTIFICATION: &str = include_str!("../../docs/notification.schema.json");

/// The arguments of `transship schema`.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Of what: the configuration, what the status port answers at /status, or the body of a notification
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
    /// The body of a notification
    Notification,
}

impl Schema {
    pub(super) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        match self.of {
            Of::Configuration => context.output.json(&crate::config::schema())?,
            Of::Notification => context.output.line(NOTIFICATION.trim_end())?,
            Of::Status => context.output.line(crate::status::SCHEMA.trim_end())?,
        }
        Ok(Exit::Ok)
    }
}
