//! Command `transship schema`: prints the JSON Schema of `sync.yaml`, of the `/status` response, or of a notification.

use clap::ValueEnum;

use crate::cli::context::invocation::Context;
use crate::cli::exit::{Exit, Failure};

/// JSON Schema of the body of a notification.
const NOTIFICATION: &str = include_str!("../../../docs/reference/notification.schema.json");

/// Arguments of `transship schema`.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// Subject of the schema: the configuration, the response of the status port at /status, or the body of a
    /// notification
    #[arg(value_enum, default_value_t, hide_default_value = true)]
    pub of: SchemaSubject,
}

/// Documents with a JSON Schema.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum SchemaSubject {
    /// `sync.yaml`
    #[default]
    Configuration,
    /// `/status`
    Status,
    /// The body of a notification
    Notification,
}

impl Schema {
    pub(crate) fn perform(self, context: &mut Context) -> Result<Exit, Failure> {
        match self.of {
            SchemaSubject::Configuration => context.output.json(&crate::config::json_schema())?,
            SchemaSubject::Notification => context.output.line(NOTIFICATION.trim_end())?,
            SchemaSubject::Status => context.output.line(crate::status::SCHEMA.trim_end())?,
        }
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::writer::tests::OutputBuffer;

    #[test]
    fn printed_notification_schema_equals_the_documented_one() {
        let buffer = OutputBuffer::default();
        let mut context = Context { output: buffer.output(), ..crate::cli::context::invocation::tests::context() };
        Schema { of: SchemaSubject::Notification }.perform(&mut context).unwrap();
        assert_eq!(buffer.text(), NOTIFICATION);
    }
}
