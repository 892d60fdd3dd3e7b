//! Configuration: converts the text of a `sync.yaml` to a [`Config`] of domain types or to all its [`Problems`].
//!
//! The conversion has these stages:
//! - `node` holds the YAML as written.
//! - `reader`, `decode` and `entry` convert it to the types of `model` by the single table of `keys`. They record
//!   problems instead of stopping at the first one.
//! - `cross_checks` checks the relations between values.
//! - `report` finds the lines of the problems.
//! - `redact` keeps secrets out of these lines (`line_keys` if the text is not valid YAML). It also covers each value
//!   whose key the table does not have at its `place`.
//! - `problem` shows the problems.
//!
//! The JSON Schema is generated from the same table. The caller supplies the environment; no code here starts or
//! watches anything.

mod cross_checks;
mod decode;
mod diagnostics;
mod diff;
#[cfg(test)]
mod doc_tests;
mod keys;
mod load;
mod model;
mod reader;
mod schema;
mod sections;
#[cfg(test)]
mod tests;
mod yaml;

pub use decode::default_journal;
pub use diagnostics::problem::{Problem, Problems};
pub(crate) use diagnostics::report::{Diagnostic, Part};
pub use diagnostics::unknown_entry::UnknownEntry;
pub use diagnostics::warning::Warning;
pub use diff::{Difference, affected, differ_in_limits_alone, difference};
pub use load::{load, parse};
pub use model::{
    Config, ControlSocket, Daemon, Entry, EntryCredentials, EntryName, EntryNameError, Readers, Status, StatusPort,
};
pub use schema::schema;
pub use sections::endpoint::{Endpoint, EndpointError};
pub use sections::push_events::{HookKind, PushEvents, Receiver};
pub use yaml::files::content;
pub(crate) use yaml::node::{Node, Path as NodePath};
pub(crate) use yaml::third_party::{Foreign, may_not_be_told};

/// Lookup of environment variables; returns `None` if a variable is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;
