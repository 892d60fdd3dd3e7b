//! Diagnostics of a configuration: problems and warnings with place, line, caret and remedy, and without secrets.

#[cfg(test)]
mod canary_tests;
pub(super) mod line_keys;
pub(super) mod place;
pub(super) mod problem;
mod redact;
pub(super) mod report;
pub(super) mod sensitivity;
pub(super) mod unknown_entry;
pub(super) mod warning;
