//! Command line: one file per command. A command reads arguments, calls the modules below, and prints results.
//!
//! This module contains no decision that a daemon needs as well.

mod arguments;
mod check;
mod completions;
mod configuration;
mod control;
mod copy;
mod evidence;
mod exit;
mod filter;
mod history;
mod import_config;
mod inspect;
mod last_word;
mod limits;
mod logging;
mod login_check;
mod man;
mod next;
mod once;
mod open;
mod output;
mod past;
mod pause;
mod place;
mod plan;
mod progress;
mod resume;
mod run;
mod schema;
mod start;
mod status;
mod summary;
mod table;
mod tags;
mod trigger;
mod units;
mod work;

pub use arguments::Arguments;
pub use exit::{Exit, Failure};
pub use logging::LogFormat;
pub use output::Output;
pub use place::{Home, Place, PlaceError};
pub use progress::Progress;
pub use start::main;
pub use table::{Align, Table};
pub use units::When;
