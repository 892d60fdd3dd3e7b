//! Files of a configuration: reading them, finding the included files, and joining all files into one tree.

pub(super) mod content;
pub(super) mod document;
mod glob;
mod includes;
mod other_program;
#[cfg(test)]
mod tests;
pub(super) mod third_party;
pub(super) mod tree;
