//! Bandwidth by the time of day, in bytes per second. Pure: the time is an argument.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Timelike as _, Utc};
use chrono_tz::Tz;

use crate::registry::{Bandwidth, Hours, Window};

const DAY: u32 = 24 * 60;

/// Error of a text that is not valid [`Hours`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// The text does not have the form `HH:MM-HH:MM`.
    #[error("{0:?} is not a range of times of day: write 08:00-18:00")]
    Form(String),
    /// The range has the same start and end.
    #[error("{0:?} begins and ends at the same minute: omit `between` for a limit at any time")]
    Empty(String),
}

impl Bandwidth {
    /// Creates a bandwidth limit with these windows. The first window that contains the current time applies.
    #[must_use]
    pub fn new(windows: Vec<Window>) -> Self {
        Self(windows)
    }

    /// Creates a bandwidth limit of this rate at any time.
    #[must_use]
    pub fn always(rate: u64) -> Self {
        Self(vec![Window::always(rate)])
    }

    /// Returns the windows in their order.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.0
    }

    /// Returns the rate at a time; `None` is no limit.
    #[must_use]
    pub fn rate_at(&self, now: DateTime<Utc>) -> Option<u64> {
        self.0.iter().find(|window| window.contains(now)).map(|window| window.rate)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, window) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", else ")?;
            }
            write!(f, "{window}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 6] = [
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
            ("GB", 1_000_000_000),
            ("MB", 1_000_000),
            ("kB", 1000),
        ];
        let exact = UNITS.iter().find(|(_, factor)| self.rate.is_multiple_of(*factor));
        let (unit, factor) = exact.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}/s", self.rate / factor)?;
        match self.between {
            Some(hours) => write!(f, " {hours} {}", self.timezone),
            None => Ok(()),
        }
    }
}

impl Window {
    /// Creates a window of this rate at any time.
    #[must_use]
    pub fn always(rate: u64) -> Self {
        Self { rate, between: None, timezone: Tz::UTC }
    }

    fn contains(&self, now: DateTime<Utc>) -> bool {
        self.between.is_none_or(|hours| {
            let local = now.with_timezone(&self.timezone);
            hours.contain(local.hour() * 60 + local.minute())
        })
    }
}

impl Hours {
    /// Creates a window of this rate at these hours of UTC.
    #[must_use]
    pub fn at_rate(self, rate: u64) -> Window {
        Window { rate, between: Some(self), timezone: Tz::UTC }
    }

    fn contain(self, minute: u32) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let read = || {
            let (from, to) = text.split_once('-')?;
            Some((read_minute(from.trim()).filter(|from| *from < DAY)?, read_minute(to.trim())?))
        };
        match read() {
            None => Err(HoursError::Form(text.to_owned())),
            Some((from, to)) if from == to % DAY => Err(HoursError::Empty(text.to_owned())),
            Some((from, to)) => Ok(Self { from, to }),
        }
    }
}

/// Reads `08:00` as minutes after midnight; `24:00` is the end of the day.
fn read_minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str, max_length: usize| {
        let good = (1..=max_length).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (hour, minute) = (digits(hour, 2)?, digits(minute, 2).filter(|_| minute.len() == 2)?);
    let whole = hour * 60 + minute;
    (minute < 60 && whole <= DAY).then_some(whole)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(from, from_minute), (to, to_minute)] = [self.from, self.to].map(|minutes| (minutes / 60, minutes % 60));
        write!(f, "{from:02}:{from_minute:02}-{to:02}:{to_minute:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    fn window(rate: u64, between: &str, timezone: Tz) -> Window {
        Window { timezone, ..hours(between).at_rate(rate) }
    }

    #[track_caller]
    fn expect(bandwidth: &Bandwidth, moments: &[(&str, Option<u64>)]) {
        for (moment, rate) in moments {
            assert_eq!(bandwidth.rate_at(moment.parse().unwrap()), *rate, "{moment}");
        }
    }

    #[test]
    fn first_matching_window_applies_else_no_limit() {
        let windows = vec![window(50, "08:00-18:00", Tz::UTC), window(20, "12:00-20:00", Tz::UTC)];
        let mut bandwidth = Bandwidth::new(windows);
        let day = [
            ("2026-11-21T07:59:59.999Z", None),
            ("2026-11-21T08:00:00Z", Some(50)),
            ("2026-11-21T17:59:59Z", Some(50)),
            ("2026-11-21T18:00:00Z", Some(20)),
            ("2026-11-21T20:00:00Z", None),
        ];
        expect(&bandwidth, &day);
        bandwidth.0.push(Window::always(200));
        expect(&bandwidth, &day.map(|(moment, rate)| (moment, rate.or(Some(200)))));
        expect(&Bandwidth::new(Vec::new()), &[("2026-11-21T12:00:00Z", None)]);
    }

    #[test]
    fn window_may_cross_midnight() {
        let night = Bandwidth::new(vec![window(7, "22:00-06:00", Tz::UTC)]);
        expect(
            &night,
            &[
                ("2026-11-21T21:59:00Z", None),
                ("2026-11-21T22:00:00Z", Some(7)),
                ("2026-11-22T00:00:00Z", Some(7)),
                ("2026-11-22T05:59:00Z", Some(7)),
                ("2026-11-22T06:00:00Z", None),
            ],
        );
        let evening = Bandwidth::new(vec![window(7, "18:00-24:00", Tz::UTC)]);
        expect(&evening, &[("2026-11-21T23:59:59Z", Some(7)), ("2026-11-22T00:00:00Z", None)]);
        let until_midnight = Bandwidth::new(vec![window(7, "18:00-00:00", Tz::UTC)]);
        expect(&until_midnight, &[("2026-11-21T23:59:59Z", Some(7)), ("2026-11-22T00:00:00Z", None)]);
    }

    #[test]
    fn window_follows_local_time_in_summer_and_winter() {
        let office = Bandwidth::new(vec![window(7, "08:00-18:00", Tz::Europe__Berlin)]);
        expect(
            &office,
            &[
                ("2026-07-01T05:59:00Z", None),
                ("2026-07-01T06:00:00Z", Some(7)),
                ("2026-12-01T06:59:00Z", None),
                ("2026-12-01T07:00:00Z", Some(7)),
                ("2026-12-01T17:00:00Z", None),
            ],
        );
        // In a time zone west of UTC, the local date is still the day before.
        let west = Bandwidth::new(vec![window(7, "22:00-23:00", Tz::America__Los_Angeles)]);
        expect(&west, &[("2026-12-02T06:30:00Z", Some(7)), ("2026-12-02T07:00:00Z", None)]);
    }

    #[test]
    fn skipped_hour_matches_no_window_and_repeated_hour_twice() {
        let night = Bandwidth::new(vec![window(7, "02:00-03:00", Tz::Europe__Berlin)]);
        // The clock moves from 01:59 to 03:00.
        expect(&night, &[("2026-03-29T00:59:00Z", None), ("2026-03-29T01:00:00Z", None)]);
        // The clock shows 02:00 to 02:59 twice.
        expect(
            &night,
            &[
                ("2026-10-24T23:59:00Z", None),
                ("2026-10-25T00:00:00Z", Some(7)),
                ("2026-10-25T00:59:00Z", Some(7)),
                ("2026-10-25T01:00:00Z", Some(7)),
                ("2026-10-25T01:59:00Z", Some(7)),
                ("2026-10-25T02:00:00Z", None),
            ],
        );
        // If a window begins in the skipped hour, the window begins at the first time after this hour.
        let morning = Bandwidth::new(vec![window(7, "02:30-05:00", Tz::Europe__Berlin)]);
        expect(&morning, &[("2026-03-29T00:59:00Z", None), ("2026-03-29T01:00:00Z", Some(7))]);
    }

    #[test]
    fn hours_display_as_they_are_parsed() {
        for (text, shown) in
            [("08:00-18:00", "08:00-18:00"), ("8:05 - 24:00", "08:05-24:00"), ("22:00-06:00", "22:00-06:00")]
        {
            assert_eq!(hours(text).to_string(), shown);
        }
        for always in ["08:00-08:00", "00:00-24:00"] {
            assert_eq!(always.parse::<Hours>(), Err(HoursError::Empty(always.to_owned())));
        }
        for bad in ["", "08:00", "8-18", "08:00-25:00", "24:00-06:00", "08:60-09:00", "08:0-09:00", "+8:00-09:00"] {
            assert_eq!(bad.parse::<Hours>(), Err(HoursError::Form(bad.to_owned())), "{bad}");
        }
        let same = "08:00-08:00".parse::<Hours>().unwrap_err().to_string();
        assert_eq!(same, r#""08:00-08:00" begins and ends at the same minute: omit `between` for a limit at any time"#);
        let form = "8am-6pm".parse::<Hours>().unwrap_err().to_string();
        assert_eq!(form, r#""8am-6pm" is not a range of times of day: write 08:00-18:00"#);
    }
}
