//! What `schedule` may say: a cron expression, a steady interval, or never.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::cron::{Cron, CronError};
use super::every::{Every, EveryError};

/// When an entry fires by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// By a cron expression.
    Cron(Cron),
    /// At a steady interval.
    Every(Every),
    /// By hand only.
    Never,
}

/// Why a text is not a [`Schedule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// It begins with `every`.
    #[error(transparent)]
    Every(#[from] EveryError),
}

impl Schedule {
    /// The first firing after `now`, [`None`] for `never`. See [`Cron::next_after`] and [`Every::next_after`].
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next_after(now, timezone),
            Self::Every(every) => every.next_after(now),
            Self::Never => None,
        }
    }

    /// The last firing after `after` and not after `until`.
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
    fn each_form_prints_as_it_is_read() {
        for text in ["never", "every 15m", "*/10  2 * * MON", "@hourly"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        assert_eq!("never".parse::<Schedule>().unwrap(), Schedule::Never);
    }
}
