//! YAML tree of a file, parsers of scalars, and the replacement of variables.

mod complexity;
pub(super) mod document;
pub(super) mod expand;
pub(super) mod node;
pub(super) mod scalar;
