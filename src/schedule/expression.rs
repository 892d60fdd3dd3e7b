//! Values of the key `schedule`: a cron expression, a fixed interval, or never.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::cron::{Cron, CronError};
use super::every::{Every, EveryError};

/// Schedule of an entry's automatic runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Runs at the times of a cron expression.
    Cron(Cron),
    /// Runs at a fixed interval.
    Every(Every),
    /// No scheduled runs: the entry runs only on request.
    Never,
}

/// Error of parsing a [`Schedule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// An invalid cron expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// An invalid text that begins with `every`.
    #[error(transparent)]
    Every(#[from] EveryError),
}

impl Schedule {
    /// Returns the first firing after `now`; [`None`] for `never`. See [`Cron::next_after`] and [`Every::next_after`].
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next_after(now, timezone),
            Self::Every(every) => every.next_after(now),
            Self::Never => None,
        }
    }

    /// Returns the last firing after `after`, up to and including `until`.
    pub(super) fn last_within(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
        timezone: Tz,
    ) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.last_within(after, until, timezone),
            Self::Every(every) => every.last_within(after, until),
            Self::Never => None,
        }
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        match text.trim() {
            "never" => Ok(Self::Never),
            interval if interval.starts_with("every") => Ok(Self::Every(text.parse()?)),
            _ => Ok(Self::Cron(text.parse()?)),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::Every(every) => every.fmt(f),
            Self::Never => f.pad("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_schedule_prints_as_it_parses() {
        for text in ["never", "every 15m", "*/10  2 * * MON", "@hourly"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        assert_eq!("never".parse::<Schedule>().unwrap(), Schedule::Never);
    }
}
