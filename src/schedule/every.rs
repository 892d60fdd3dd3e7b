//! Schedule with a fixed interval: `every 15m`. The firings do not depend on a start time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Minimum interval in seconds.
const SHORTEST: u64 = 60;

/// Maximum interval in seconds.
const LONGEST: u64 = 31 * 24 * 3600;

/// Interval between firings: whole seconds, from 1 minute to 31 days.
///
/// The firings are at multiples of the interval since 1970-01-01 00:00 UTC. `every 15m` fires at minutes 0, 15, 30 and
/// 45 of each hour, and `every 1d` at midnight UTC. Restarts, time zones and clock changes do not shift the firings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    seconds: i64,
}

/// Error of parsing an [`Every`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EveryError {
    /// No valid duration after `every`.
    #[error("{0:?}: expected a duration after `every`, like every 15m or every 6h")]
    NoDuration(String),
    /// A duration with fractions of a second, or a duration that is too short or too long.
    #[error("{0:?}: expected an interval of whole seconds, from 1 minute to 31 days")]
    OutOfBounds(String),
}

impl Every {
    /// Returns the first firing after `now`; [`None`] if the date is out of range.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = now.timestamp().div_euclid(self.seconds).checked_add(1)?;
        DateTime::from_timestamp(next.checked_mul(self.seconds)?, 0)
    }

    /// Returns the last firing after `after`, up to and including `until`.
    pub(super) fn last_within(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = until.timestamp().div_euclid(self.seconds) * self.seconds;
        DateTime::from_timestamp(last, 0).filter(|last| *last > after)
    }
}

impl FromStr for Every {
    type Err = EveryError;

    fn from_str(text: &str) -> Result<Self, EveryError> {
        let interval = text.trim().strip_prefix("every").unwrap_or_default();
        let interval =
            humantime::parse_duration(interval.trim()).map_err(|_| EveryError::NoDuration(text.to_owned()))?;
        let seconds = interval.as_secs();
        if interval.subsec_nanos() > 0 || !(SHORTEST..=LONGEST).contains(&seconds) {
            return Err(EveryError::OutOfBounds(text.to_owned()));
        }
        Ok(Self { seconds: i64::try_from(seconds).map_err(|_| EveryError::OutOfBounds(text.to_owned()))? })
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {}", humantime::format_duration(Duration::from_secs(self.seconds.unsigned_abs())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every(text: &str) -> Every {
        text.parse().unwrap()
    }

    fn next(text: &str, now: &str) -> String {
        every(text).next_after(now.parse().unwrap()).unwrap().to_rfc3339()
    }

    #[test]
    fn interval_fires_at_its_multiples() {
        assert_eq!(next("every 15m", "2026-05-10T03:14:59.5Z"), "2026-05-10T03:15:00+00:00");
        assert_eq!(next("every 15m", "2026-05-10T03:15:00Z"), "2026-05-10T03:30:00+00:00");
        assert_eq!(next("every 1d", "2026-05-10T03:15:00Z"), "2026-05-11T00:00:00+00:00");
        assert_eq!(next("every 7h", "1970-01-01T00:00:00Z"), "1970-01-01T07:00:00+00:00");
    }

    #[test]
    fn interval_prints_in_human_form() {
        for (written, printed) in
            [("every 15m", "every 15m"), ("every  90m", "every 1h 30m"), ("every1h30m", "every 1h 30m")]
        {
            assert_eq!(every(written).to_string(), printed);
            assert_eq!(every(printed), every(written));
        }
    }

    #[test]
    fn malformed_interval_error_states_the_remedy() {
        let message = |text: &str| text.parse::<Every>().unwrap_err().to_string();
        assert_eq!(
            message("every day"),
            r#""every day": expected a duration after `every`, like every 15m or every 6h"#
        );
        for text in ["every 10s", "every 32d", "every 61500ms"] {
            let expected = format!("{text:?}: expected an interval of whole seconds, from 1 minute to 31 days");
            assert_eq!(message(text), expected);
        }
    }

    proptest! {
        #[test]
        fn last_and_next_firing_are_one_interval_apart(seconds in 60_i64..2_678_400, now in 0_i64..4_000_000_000) {
            let every = Every { seconds };
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let next = every.next_after(now).unwrap();
            prop_assert!(next > now);
            let before = now - chrono::TimeDelta::seconds(seconds);
            let last = every.last_within(before, now).unwrap();
            prop_assert_eq!((next - last).num_seconds(), seconds);
            prop_assert!(last <= now);
            prop_assert_eq!(every.last_within(now, next - chrono::TimeDelta::seconds(1)), None);
        }
    }
}
