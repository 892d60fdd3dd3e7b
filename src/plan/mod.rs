//! Plan of a run: tag selection, difference of two tag maps, and rules. Pure functions over values that the caller
//! fetched: no I/O, no clock.

mod conflicts;
mod diff;
mod foreign_layers;
mod pattern;
mod reserved;
mod select;
mod version;

pub use conflicts::{Claim, find_conflicts};
pub use diff::{Action, Overwrite, OverwriteError, decide, diff};
pub use foreign_layers::{ForeignLayers, ForeignLayersError};
pub use pattern::{Pattern, PatternError};
pub use reserved::ReservedForm;
pub use select::{Selected, Selection, Shortfall, Verdict};
pub use version::{VersionRange, VersionRangeError};
