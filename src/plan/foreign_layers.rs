//! The rule for foreign layers: those of a non-distributable type that can be had at addresses of their own.

use std::fmt;
use std::str::FromStr;

/// What happens to a foreign layer. One whose manifest gives no address is always copied: there is no other place to have it from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignLayers {
    /// It stays where its addresses say.
    #[default]
    Skip,
    /// It is copied from the source like any other layer.
    Copy,
}

/// A text that is not a [`ForeignLayers`] rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rule for foreign layers: expected skip or copy")]
pub struct ForeignLayersError(String);

impl ForeignLayers {
    /// All rules, as they are written.
    pub const NAMES: [&'static str; 2] = ["skip", "copy"];
}

impl fmt::Display for ForeignLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Skip => "skip",
            Self::Copy => "copy",
        })
    }
}

impl FromStr for ForeignLayers {
    type Err = ForeignLayersError;

    fn from_str(text: &str) -> Result<Self, ForeignLayersError> {
        match text {
            "skip" => Ok(Self::Skip),
            "copy" => Ok(Self::Copy),
            _ => Err(ForeignLayersError(text.to_owned())),
        }
    }
}
