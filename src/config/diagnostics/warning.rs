//! Warnings about settings that are permitted but not recommended. A warning never changes an exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;

/// Warning with an optional remedy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    /// Entry that the warning concerns. `None` means no entry or several entries.
    pub entry: Option<String>,
    /// Text of the warning. If the warning has a place in the file, the text begins with the place, such as
    /// `sync.yaml:5:30: `.
    pub text: String,
    /// Remedy, such as a key that the user should write.
    pub remedy: Option<String>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.remedy {
            Some(remedy) => write!(f, ": {remedy}"),
            None => Ok(()),
        }
    }
}

/// Warning whose line and column are not yet known.
#[derive(Debug, Clone)]
pub(crate) struct WarningDraft {
    /// Entry that the warning concerns. `None` means no entry or several entries.
    pub(crate) entry: Option<String>,
    pub(crate) found: Diagnostic,
}
