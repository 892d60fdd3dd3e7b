//! Command line: one file per command. A command reads arguments, calls the modules below, and prints results.
//!
//! Decisions that the daemon also needs are in other modules.

mod arguments;
mod commands;
mod context;
#[cfg(test)]
mod doc_tests;
mod exit;
mod logging;
mod main;
mod output;

pub use arguments::Arguments;
pub use context::location::{ContentLocation, LocationError, TargetLocation};
pub use exit::{Exit, Failure};
pub use logging::LogFormat;
pub use main::main;
pub use output::style::ColorMode;
pub use output::table::{Cell, Column, Table};
pub use output::units::When;
pub use output::writer::Output;
