//! Problems and warnings about a configuration, with line, caret and remedy. The messages contain no secrets.

#[cfg(test)]
mod canary_tests;
pub(super) mod diagnostic;
mod line_keys;
pub(super) mod problem;
mod redact;
pub(super) mod report;
pub(super) mod schema_place;
mod secrets;
pub(super) mod syntax_error;
mod text;
pub(super) mod unknown_entry;
pub(super) mod unknown_key;
pub(super) mod warning;
