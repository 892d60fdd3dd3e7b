//! What would change: the choice of tags, the difference of two tag maps and the rules. Pure functions over
//! values that others fetched: no I/O, no clock.

mod contested;
mod diff;
mod foreign_layers;
mod pattern;
mod reserved;
mod select;
mod version;

pub use contested::{Claim, contested};
pub use diff::{Action, Overwrite, OverwriteError, decide, diff};
pub use foreign_layers::{ForeignLayers, ForeignLayersError};
pub use pattern::{Pattern, PatternError};
pub use reserved::ReservedForm;
pub use select::{Selected, Selection, Shortfall, Verdict};
pub use version::{VersionRange, VersionRangeError};
