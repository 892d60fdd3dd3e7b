//! Cron expressions of five fields, as POSIX has them, on an engine of another dialect.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::fields::{FIELDS, WEEKDAYS};

/// When an entry fires by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// By a cron expression.
    Cron(Cron),
    /// By hand only.
    Never,
}

/// A cron expression: `minute hour day-of-month month day-of-week`.
///
/// Weekdays are 0 to 7 (0 and 7 are Sunday) or names, months 1 to 12 or names. When both day fields are restricted, a
/// day of either fires (POSIX). `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and `@annually` are known.
/// Prints as it was written; equal when written the same.
#[derive(Clone)]
pub struct Cron {
    text: String,
    /// One engine, or two where either day field may fire.
    engines: Vec<cron::Schedule>,
}

/// Why a text is not a [`Cron`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// A field for seconds stands before the others.
    #[error("{0:?} has six fields: seconds are not supported, write five: minute hour day-of-month month day-of-week")]
    Six(String),
    /// The number of fields is neither five nor six.
    #[error(
        "{expression:?} has {found} {}: expected five: minute hour day-of-month month day-of-week",
        if *.found == 1 { "field" } else { "fields" }
    )]
    Count {
        /// The whole expression.
        expression: String,
        /// How many fields it has.
        found: usize,
    },
    /// One field is wrong.
    #[error("{expression:?}: the {field} field: {reason}")]
    Field {
        /// The whole expression.
        expression: String,
        /// The field's name.
        field: &'static str,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// An `@name` that is not known.
    #[error("{0:?} is not a known name: expected @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually")]
    Name(String),
    /// No day of the calendar fits.
    #[error(
        "{0:?} never fires: no month that it names has such a day; write `never` for an entry that runs by hand only"
    )]
    Never(String),
}

impl Schedule {
    /// The first firing after `now`, [`None`] for `never`. See [`Cron::next_after`].
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron(cron) => cron.next_after(now, timezone),
            Self::Never => None,
        }
    }
}

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.trim() == "never" { Ok(Self::Never) } else { text.parse().map(Self::Cron) }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron) => cron.fmt(f),
            Self::Never => f.pad("never"),
        }
    }
}

impl Cron {
    /// The first firing after `now`, by the wall clock of `timezone`.
    ///
    /// A wall-clock time that the spring change leaves out fires at the first instant after the gap; one that the autumn
    /// change brings twice fires the first time only. [`None`] only beyond the year 2100.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
        // The engine counts on a clock without time zone (named UTC); what that means as an instant is decided here.
        let wall = now.with_timezone(&timezone).naive_local().and_utc();
        let next = |engine: &cron::Schedule| {
            engine.after(&wall).map(|at| first_instant(at.naive_utc(), timezone)).find(|at| *at > now)
        };
        self.engines.iter().filter_map(next).min()
    }

    /// The last firing after `after` and not after `until`.
    pub(super) fn last_within(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
        timezone: Tz,
    ) -> Option<DateTime<Utc>> {
        let within = |at: &DateTime<Utc>| *at <= until;
        self.next_after(after, timezone).filter(within)?;
        // Looks back from the end over spans that double, so that years of every minute cost no more than an hour.
        let mut span = TimeDelta::minutes(1);
        let mut last = loop {
            let begin = until.checked_sub_signed(span).map_or(after, |begin| begin.max(after));
            if let Some(first) = self.next_after(begin, timezone).filter(within) {
                break first;
            }
            span = span * 2;
        };
        while let Some(later) = self.next_after(last, timezone).filter(within) {
            last = later;
        }
        Some(last)
    }
}

/// The first instant at which a wall clock shows `wall` or, where it skips that, has gone past it.
fn first_instant(wall: NaiveDateTime, timezone: Tz) -> DateTime<Utc> {
    // No gap is longer than the day that Samoa left out.
    let shown = (0..=25 * 60).find_map(|minutes| {
        let later = wall.checked_add_signed(TimeDelta::minutes(minutes))?;
        timezone.from_local_datetime(&later).earliest()
    });
    shown.map_or_else(|| wall.and_utc(), |at| at.to_utc())
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = unalias(text)?.split_ascii_whitespace().collect();
        let fields: [&str; 5] = match (fields.len(), fields.try_into()) {
            (_, Ok(five)) => five,
            (6, Err(_)) => return Err(CronError::Six(text.to_owned())),
            (found, Err(_)) => return Err(CronError::Count { expression: text.to_owned(), found }),
        };
        let mut values = Vec::with_capacity(FIELDS.len());
        for (field, written) in FIELDS.iter().zip(fields) {
            let read = field.values(written);
            values.push(read.map_err(|reason| CronError::Field {
                expression: text.to_owned(),
                field: field.name,
                reason,
            })?);
        }
        let [minutes, hours, days, months, weekdays] = &values[..] else {
            return Err(CronError::Count { expression: text.to_owned(), found: values.len() });
        };
        let clock = format!("0 {} {}", numbers(minutes), numbers(hours));
        let (days, months) = (numbers(days), numbers(months));
        let weekdays = weekdays.iter().map(|day| WEEKDAYS[*day as usize % 7]).collect::<Vec<_>>().join(",");
        let lines = match (fields[2], fields[4]) {
            ("*", "*") => vec![format!("{clock} * {months} *")],
            (_, "*") => vec![format!("{clock} {days} {months} *")],
            ("*", _) => vec![format!("{clock} * {months} {weekdays}")],
            _ => vec![format!("{clock} {days} {months} *"), format!("{clock} * {months} {weekdays}")],
        };
        let engines: Vec<cron::Schedule> = lines.iter().filter_map(|line| line.parse().ok()).collect();
        if engines.iter().all(|engine| engine.after(&DateTime::UNIX_EPOCH).next().is_none()) {
            return Err(CronError::Never(text.to_owned()));
        }
        Ok(Self { text: text.to_owned(), engines })
    }
}

fn numbers(values: &BTreeSet<u32>) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn unalias(text: &str) -> Result<&str, CronError> {
    let text = text.trim();
    match text {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ if text.starts_with('@') => Err(CronError::Name(text.to_owned())),
        _ => Ok(text),
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}
