//! YAML files of other programs: the tree as written, and problems with line, column and caret.

use std::path::Path;

use super::document::{parse_foreign, read_text};
use crate::config::diagnostics::diagnostic::Diagnostic;
use crate::config::diagnostics::problem::Problems;
use crate::config::diagnostics::report::locate_problems;
use crate::config::keys::schema::Schema;
use crate::config::yaml::document::Document;
use crate::config::yaml::node::Node;

/// One file of another program.
pub(crate) struct ForeignFile(Document);

impl ForeignFile {
    /// Reads a file. Blocking.
    ///
    /// # Errors
    /// Returns the problems if the file cannot be read, is larger than 16 MiB or is not valid YAML.
    pub(crate) fn load(path: &Path, schema: &'static Schema) -> Result<Self, Problems> {
        Self::parse(&path.display().to_string(), &read_text(path)?, schema)
    }

    /// Parses the text of the file `name`.
    ///
    /// # Errors
    /// Returns the problems if the text is not valid YAML.
    pub(crate) fn parse(name: &str, text: &str, schema: &'static Schema) -> Result<Self, Problems> {
        Ok(Self(parse_foreign(name, text, schema)?))
    }

    /// Returns the name of the file in messages.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn root(&self) -> &Node {
        &self.0.root
    }

    /// Converts the diagnostics into problems with lines and columns. Returns `None` if `found` is empty.
    pub(crate) fn locate_problems(&self, found: Vec<Diagnostic>) -> Option<Problems> {
        locate_problems(&self.0, found, |path| Some((&self.0, path.to_vec())))
    }
}
