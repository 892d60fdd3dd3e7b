//! Schedules of entries and the timetable of their firings. Pure: `now` is always an argument.

mod backoff;
mod cron;
mod deferred;
mod every;
mod expression;
mod fields;
mod jitter;
mod setback;
mod timetable;
mod wall_clock;

pub use backoff::backoff;
pub use cron::{Cron, CronError};
pub use deferred::Deferred;
pub use every::{Every, EveryError};
pub use expression::{Schedule, ScheduleError};
pub use jitter::jitter_of;
pub use setback::Setbacks;
pub use timetable::{Firing, Timetable, Timing};
