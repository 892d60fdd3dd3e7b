//! YAML as written: nodes with their places, scalars, and the expansion of variables.

mod complexity;
pub(super) mod document;
pub(super) mod expand;
pub(super) mod node;
pub(super) mod scalar;
