//! Problem or warning about a node of the YAML tree. The line and the column of the node are not yet known.

use std::fmt::Display;

use crate::config::yaml::node::Path;

/// Problem or warning about a node of the YAML tree.
#[derive(Debug, Clone)]
pub(crate) struct Diagnostic {
    pub(super) path: Path,
    pub(super) part: Part,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// For a repeated key or value: the path of the first occurrence.
    pub(super) first: Option<(Path, Part)>,
}

/// Part of a key-value pair.
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

    pub(crate) fn with_path(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// Sets the path of the first occurrence of a repeated key or value. The message later contains the line of the
    /// first occurrence.
    pub(crate) fn with_first(self, path: &[usize], part: Part) -> Self {
        Self { first: Some((path.to_vec(), part)), ..self }
    }
}
