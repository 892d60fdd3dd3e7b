//! Diagnostics of a configuration: problems and warnings with line, caret and remedy, and without secrets.

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
