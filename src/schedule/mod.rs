//! When an entry is due: cron expressions and the timetable of entries. Pure: `now` is always an argument.

mod cron;
mod fields;
mod jitter;
mod postponed;
mod timetable;

pub use cron::{Cron, CronError, Schedule};
pub use jitter::jitter_of;
pub use postponed::Postponed;
pub use timetable::{Firing, Timetable, Timing};
