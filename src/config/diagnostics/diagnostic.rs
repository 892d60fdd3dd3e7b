//! Diagnostic: a problem or a warning at a node, without line and column.

use std::fmt::Display;

use crate::config::yaml::node::Path;

/// Problem or warning at a node.
#[derive(Debug, Clone)]
pub(crate) struct Diagnostic {
    pub(super) path: Path,
    pub(super) part: Part,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Place of the first occurrence, if a key or value is repeated.
    pub(super) first: Option<(Path, Part)>,
}

/// Part of a key-value pair that the diagnostic concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

impl Diagnostic {
    pub(crate) fn new(path: &[usize], part: Part, message: impl Display) -> Self {
        Self { path: path.to_vec(), part, message: message.to_string(), hint: None, first: None }
    }

    pub(crate) fn with_hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    pub(crate) fn path(&self) -> &[usize] {
        &self.path
    }

    /// Returns the same diagnostic at another place.
    pub(crate) fn with_path(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// Adds the place of the first occurrence of a repeated key or value. The message then names the line of that
    /// place.
    pub(crate) fn with_first(self, path: &[usize], part: Part) -> Self {
        Self { first: Some((path.to_vec(), part)), ..self }
    }
}
