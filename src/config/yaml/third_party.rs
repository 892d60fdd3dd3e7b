//! YAML of other programs, read in the same way as ours: the tree as written, and problems with line, column and caret.
//! `import` interprets its keys.

use std::path::Path;

use super::files::{Document, text_of};
use super::node::Node;
use crate::config::Problems;
use crate::config::diagnostics::report::{Diagnostic, problems};
use crate::config::diagnostics::sensitivity::hides_secret;

/// One file of another program.
pub(crate) struct Foreign(Document);

impl Foreign {
    /// Reads a file. Blocking.
    ///
    /// # Errors
    /// Returns the problems if the file cannot be read, is larger than 16 MiB or is not valid YAML.
    pub(crate) fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&path.display().to_string(), &text_of(path)?)
    }

    /// Parses the text of a file called `name`.
    ///
    /// # Errors
    /// Returns the problems if the text is not valid YAML.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        Ok(Self(Document::foreign(name, text)?))
    }

    /// Returns the name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn root(&self) -> &Node {
        &self.0.root
    }

    /// Finds the lines and columns of the diagnostics. Returns `None` if there are none.
    pub(crate) fn problems(&self, found: Vec<Diagnostic>) -> Option<Problems> {
        problems(&self.0, found, |path| Some((&self.0, path.to_vec())))
    }
}

/// Returns true if a message must not repeat a text, because it may be a secret or may contain one.
pub(crate) fn may_not_be_told(text: &str) -> bool {
    hides_secret(text)
}
