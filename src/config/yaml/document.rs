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
    /// Schema of `sync.yaml`. If the file belongs to another program, the schema only finds keys with possible secrets.
    pub(crate) schema: &'static Schema,
}

/// Format of a file. The format decides which parts of a line a message may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Configuration. The schema contains the keys.
    Configuration,
    /// File of another program.
    Foreign,
    /// Unknown format. The file may contain secrets anywhere, so messages show no line.
    Unknown,
}
