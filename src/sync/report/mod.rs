//! Reports, events and log lines of a run.

pub(super) mod log_lines;
pub(super) mod repeated_failures;
pub(super) mod run_events;
pub(super) mod run_report;
