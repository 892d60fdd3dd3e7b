//! Configuration: converts the text of a `sync.yaml` to a [`Config`]. If the text has problems, returns all
//! [`Problems`].
//!
//! The conversion has these parts:
//! - `yaml` and `files` read the YAML text, and join the included files into one tree.
//! - `decode` reads the tree, one section after the other. Each file of `sections` contains the keys of one section and
//!   the code that reads these keys.
//! - `cross_checks` and `cross_warnings` compare values with each other.
//! - `diagnostics` adds the line to each problem, and masks secrets in messages.
//!
//! `keys`, `reader`, `yaml`, `files` and `diagnostics` do not depend on any section. The tables of all sections form
//! one schema (`sections::top_level::SCHEMA`). The reader, the JSON Schema, the hints in messages and the masking of
//! secrets use this schema. The caller passes the environment variables.

mod cross_checks;
mod cross_warnings;
mod decode;
mod diagnostics;
mod diff;
#[cfg(test)]
mod doc_tests;
mod files;
mod json_schema;
mod keys;
mod load;
mod model;
mod reader;
mod sections;
#[cfg(test)]
mod tests;
mod yaml;

pub(crate) use diagnostics::diagnostic::{Diagnostic, Part};
pub use diagnostics::problem::{Problem, Problems};
pub use diagnostics::unknown_entry::UnknownEntry;
pub use diagnostics::warning::Warning;
pub use diff::{Difference, affected, differ_in_limits_alone, difference};
pub use files::content::content;
pub(crate) use files::third_party::ForeignFile;
pub use json_schema::json_schema;
pub use load::{load, parse};
pub(crate) use load::{load_foreign, may_be_secret, parse_foreign};
pub use model::config::Config;
pub use model::daemon::{ControlSocket, Daemon};
pub(crate) use model::endpoint::require_target_host;
pub use model::endpoint::{Endpoint, EndpointError};
pub use model::entry::{Entry, EntryCredentials, EntryName, EntryNameError};
pub use model::push_events::{HookKind, PushEvents, Receiver};
pub use model::status::{Readers, Status, StatusPort};
pub use sections::daemon::default_journal;
pub use yaml::expand::Environment;
pub(crate) use yaml::node::{Node, Path as NodePath};
