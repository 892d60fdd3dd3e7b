//! Files of a configuration: reads the configuration and its included files, and joins all files into one tree.

pub(super) mod content;
pub(super) mod document;
mod glob;
mod includes;
mod other_program;
#[cfg(test)]
mod tests;
pub(super) mod third_party;
pub(super) mod tree;
