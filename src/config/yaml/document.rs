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
    /// Schema of configurations. For a file of another program, the schema only identifies keys that may take a secret.
    pub(crate) schema: &'static Schema,
}

/// Format of a file. The format determines the parts of lines that may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Configuration. Its keys are in the tables of keys.
    Configuration,
    /// Configuration of another program.
    Foreign,
    /// Unknown format. No line is shown, because the file may contain many secrets.
    Unknown,
}
