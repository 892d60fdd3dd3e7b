//! One file as written: its name, its text, its tree and its format.

use super::node::Node;
use crate::config::keys::schema::Schema;

/// One file: a part of a configuration, or the YAML of another program.
pub(crate) struct Document {
    /// Name in messages.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) root: Node,
    pub(crate) format: Format,
    /// Schema of configurations. For a file of another program, the schema is used only to find keys that may take a
    /// secret.
    pub(crate) schema: &'static Schema,
}

/// Format of a file. The format determines the parts of the lines that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Configuration, whose keys are in the table of keys.
    Configuration,
    /// Configuration of another program.
    Foreign,
    /// Unknown format. No line is shown: the file may be full of secrets.
    Unknown,
}
