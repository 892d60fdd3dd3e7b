//! Warning about a setting that is allowed but not advisable. It never changes an exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;

/// Something that works and should not be so, with the way out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    /// The entry that it is about; `None` where it is about none or several.
    pub entry: Option<String>,
    /// The fact, and where it stands in the file if it does (`sync.yaml:5:30: …`).
    pub text: String,
    /// The way out.
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

/// Warning whose line and column are not known yet.
#[derive(Debug, Clone)]
pub(crate) struct WarningDraft {
    /// Entry concerned; `None` if the warning concerns no entry or several.
    pub(crate) entry: Option<String>,
    pub(crate) found: Diagnostic,
}
