//! Plan of a run: tag selection, difference of two tag maps, and rules. All functions are pure: they do no I/O and read
//! no clock. The caller fetches the values and passes them as arguments.

mod conflicts;
mod diff;
mod foreign_layers;
mod pattern;
mod repository_pattern;
mod reserved;
mod select;
mod tag_names;
mod version;

pub use conflicts::{Claim, find_conflicts};
pub use diff::{Action, Overwrite, OverwriteError, decide, diff};
pub use foreign_layers::{ForeignLayers, ForeignLayersError};
pub use pattern::{Pattern, PatternError};
pub use repository_pattern::{RepositoryPattern, RepositoryPatternError, RepositorySelection};
pub use reserved::ReservedForm;
pub use select::{Selected, Selection, Shortfall, Verdict};
pub use tag_names::{TagNameError, TagNames, TagTemplate, TagTemplateError};
pub use version::{VersionRange, VersionRangeError};
