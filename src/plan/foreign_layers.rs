//! Rule for foreign layers: layers of a non-distributable type that have download addresses.

use std::fmt;
use std::str::FromStr;

/// Rule for a foreign layer. The program always copies a layer without a download address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignLayers {
    /// The program does not copy the layer. Clients download the layer from its addresses.
    #[default]
    Skip,
    /// The program copies the layer from the source like any other layer.
    Copy,
}

/// Error of parsing a [`ForeignLayers`] rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rule for foreign layers: expected skip or copy")]
pub struct ForeignLayersError(String);

impl ForeignLayers {
    /// Names of all rules, as in the configuration.
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
