//! Configuration: converts the text of a `sync.yaml` to a [`Config`] of domain types or to all its [`Problems`].
//!
//! The conversion has these stages:
//! - `yaml` and `files` read the YAML as written, and join the included files into one tree.
//! - `decode` reads the tree section by section. Each file of `sections` has the keys of one section and their reader.
//! - `cross_checks` and `cross_warnings` check the relations between values.
//! - `diagnostics` finds the lines of the problems and keeps secrets out of them.
//!
//! `keys`, `reader`, `yaml`, `files` and `diagnostics` are the engine, which knows no section. The tables of all
//! sections form one schema (`sections::top_level::SCHEMA`), which the reader, the JSON Schema, the hints and the masks
//! use. The caller supplies the environment; no code here starts or watches anything.

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
