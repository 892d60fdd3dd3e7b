//! Warnings about settings that are allowed but not advisable. A warning never changes an exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;

/// Warning, with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    /// Entry concerned; `None` if the warning concerns no entry or several.
    pub entry: Option<String>,
    /// Message. It begins with the place in the file, if there is one (`sync.yaml:5:30: …`).
    pub text: String,
    /// Remedy.
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

/// Warning without line and column.
#[derive(Debug, Clone)]
pub(crate) struct WarningDraft {
    /// Entry concerned; `None` if the warning concerns no entry or several.
    pub(crate) entry: Option<String>,
    pub(crate) found: Diagnostic,
}
