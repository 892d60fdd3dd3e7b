//! The configuration: the text of a `sync.yaml` in, a [`Config`] of domain types or all its [`Problems`] out.
//!
//! In stages. `node` is the YAML as written. `reader`, `decode` and `entry` turn it into the types of `model` by the
//! one table of `keys`, and keep what is wrong instead of stopping there; `across` checks what only shows between
//! values. `report` finds the lines of what is wrong, `secrecy` keeps secrets out of them (`line_keys` where the text
//! is no YAML), and each value whose key the table does not have at its `place`; `problem` shows them. The JSON Schema
//! is made from the same table. The environment is the caller's; nothing here starts or watches anything.

mod across;
mod azure;
#[cfg(test)]
mod canary_tests;
mod cloud;
mod cloud_keys;
mod complexity;
mod control;
mod credentials;
mod decode;
mod difference;
mod endpoint;
mod entry;
mod expand;
mod files;
mod foreign;
mod glob;
mod hooks;
mod keys;
mod limits;
mod line_keys;
mod load;
mod model;
mod node;
mod notify;
mod place;
mod problem;
mod reader;
mod registry_keys;
mod report;
mod scalar;
mod schema;
mod secrecy;
mod sensitivity;
mod sides;
mod status;
mod syntax;
#[cfg(test)]
mod tests;
mod transport;
mod unknown;
mod warning;

pub use decode::default_journal;
pub use difference::{Difference, affected, differ_in_limits_alone, difference};
pub use endpoint::{Endpoint, EndpointError};
pub use files::content;
pub(crate) use foreign::{Foreign, may_not_be_told};
pub use hooks::{HookKind, Hooks, Receiver};
pub use load::{load, parse};
pub use model::{
    Config, ControlSocket, Daemon, Entry, EntryCredentials, EntryName, EntryNameError, Readers, Status, StatusPort,
};
pub(crate) use node::{Node, Path as NodePath};
pub use problem::{Problem, Problems};
pub(crate) use report::{Found, Part};
pub use schema::schema;
pub use unknown::UnknownEntry;
pub use warning::Warning;

/// Answers for environment variables; `None` where one is not set.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;
