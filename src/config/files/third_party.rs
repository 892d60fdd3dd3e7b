//! YAML file of another program.

use std::path::Path;

use super::document::{parse_foreign, read_text};
use crate::config::diagnostics::diagnostic::Diagnostic;
use crate::config::diagnostics::problem::Problems;
use crate::config::diagnostics::report::locate_problems;
use crate::config::keys::schema::Schema;
use crate::config::yaml::document::Document;
use crate::config::yaml::node::Node;

/// YAML file of another program, with its tree.
pub(crate) struct ForeignFile(Document);

impl ForeignFile {
    /// Reads a file. The call blocks.
    ///
    /// # Errors
    /// Fails if the file is unreadable, is larger than 16 MiB, or is not valid YAML.
    pub(crate) fn load(path: &Path, schema: &'static Schema) -> Result<Self, Problems> {
        Self::parse(&path.display().to_string(), &read_text(path)?, schema)
    }

    /// Parses a text. `name` is the name of the file in messages.
    ///
    /// # Errors
    /// Fails if the text is not valid YAML.
    pub(crate) fn parse(name: &str, text: &str, schema: &'static Schema) -> Result<Self, Problems> {
        Ok(Self(parse_foreign(name, text, schema)?))
    }

    /// Returns the file name that messages contain.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn root(&self) -> &Node {
        &self.0.root
    }

    /// Converts diagnostics into problems with line and column. If `found` is empty, returns `None`.
    pub(crate) fn locate_problems(&self, found: Vec<Diagnostic>) -> Option<Problems> {
        locate_problems(&self.0, found, |path| Some((&self.0, path.to_vec())))
    }
}
