//! Plan of a run: tag selection, comparison of source tags with target tags, and rules. All functions are pure: no I/O
//! and no clock.

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
pub use select::{Selected, Selection, Shortfall, Verdict, sort_newest_first};
pub use tag_names::{TagNameError, TagNames, TagTemplate, TagTemplateError};
pub use version::{VersionRange, VersionRangeError};
