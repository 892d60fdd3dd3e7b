//! The configuration: the text of a `sync.yaml` in, a [`Config`] of domain types or all its [`Problems`] out.
//!
//! In stages. `node` is the YAML as written. `reader`, `decode` and `entry` turn it into the types of `model` by the
//! one table of `keys`, and keep what is wrong instead of stopping there; `across` checks what only shows between
//! values. `report` finds the lines of what is wrong, `secrecy` keeps secrets out of them (`line_keys` where the text
//! is no YAML), and each value whose key the table does not have at its `place`; `problem` shows them. The JSON Schema
//! is made from the same table. The environment is the caller's; nothing here starts or watches anything.

mod cross_checks;
mod decode;
mod diagnostics;
mod diff;
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
pub use sections::push_events::{HookKind, Hooks, Receiver};
pub use yaml::files::content;
pub(crate) use yaml::node::{Node, Path as NodePath};
pub(crate) use yaml::third_party::{Foreign, may_not_be_told};

/// Answers for environment variables; `None` where one is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;
