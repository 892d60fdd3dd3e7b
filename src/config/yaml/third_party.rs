//! The YAML of other programs, read as ours is: the tree as written, and problems with line, column and caret. What its keys
//! mean is for `import`.

use std::path::Path;

use super::files::{Document, text_of};
use super::node::Node;
use crate::config::Problems;
use crate::config::diagnostics::report::{Diagnostic, problems};
use crate::config::diagnostics::sensitivity::hides_secret;

/// One file of another program's.
pub(crate) struct Foreign(Document);

impl Foreign {
    /// Reads a file. Blocking.
    ///
    /// # Errors
    /// Where it cannot be read, is larger than 16 MiB or is no YAML.
    pub(crate) fn load(path: &Path) -> Result<Self, Problems> {
        Self::parse(&path.display().to_string(), &text_of(path)?)
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// Where it is no YAML.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        Ok(Self(Document::foreign(name, text)?))
    }

    /// As it is named in messages.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn root(&self) -> &Node {
        &self.0.root
    }

    /// The lines and columns of what was found. `None` where nothing was.
    pub(crate) fn problems(&self, found: Vec<Diagnostic>) -> Option<Problems> {
        problems(&self.0, found, |path| Some((&self.0, path.to_vec())))
    }
}

/// Whether a text may not be repeated, since it can be a secret or has one in it.
pub(crate) fn may_not_be_told(text: &str) -> bool {
    hides_secret(text)
}
