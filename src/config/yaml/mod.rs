//! YAML as written: files, nodes with their places, and the expansion of variables and patterns.

mod complexity;
pub(super) mod expand;
pub(super) mod files;
mod glob;
pub(super) mod node;
pub(super) mod scalar;
mod syntax;
pub(super) mod third_party;
