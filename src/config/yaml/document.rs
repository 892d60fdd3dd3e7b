//! YAML file: its name, text, tree and format.

use super::node::Node;
use crate::config::keys::schema::Schema;

/// YAML file: a configuration, an included file, or a file of another program.
pub(crate) struct Document {
    /// File name in messages.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) root: Node,
    pub(crate) format: Format,
    /// Schema of `sync.yaml`. In a file of another program, the schema is used only to find possible secrets.
    pub(crate) schema: &'static Schema,
}

/// Format of a file. The format determines the parts of a line that a message can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Configuration. The schema contains the keys.
    Configuration,
    /// File of another program.
    Foreign,
    /// Unknown format. The file can contain secrets anywhere, so messages show no line.
    Unknown,
}
