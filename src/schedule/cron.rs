//! Cron expressions of five fields as in POSIX. The `cron` crate calculates the firings: the times at which an
//! expression is due.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::fields::{FIELDS, WEEKDAYS};
use super::wall_clock::{first_instant, next_change, shown_at};

/// Cron expression: `minute hour day-of-month month day-of-week`.
///
/// Weekdays are 0 to 7 (0 and 7 are Sunday) or names. Months are 1 to 12 or names. If neither day field is `*`, the
/// expression fires on each day that matches at least one of the two fields (POSIX). The parser also accepts `@hourly`,
/// `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` and `@annually`. `Display` prints the original text. Two
/// expressions are equal if their original texts are equal.
///
/// Clock changes (daylight saving time) follow the rules of cronie (`cron(8)`, "Daylight Saving Time and other time
/// changes"):
/// - In a *wildcard* expression, the minute or the hour field begins with `*`. Such an expression fires whenever the
///   wall clock shows a matching time. The expression fires in both passes of a repeated hour, and not in a skipped
///   hour.
/// - Every other expression has *fixed times*. Each time fires once a day. A time in a repeated hour fires in the first
///   pass. A time in a skipped hour fires at the first instant after the gap.
///
/// ```
/// use chrono::{DateTime, Utc};
/// use chrono_tz::Europe::Berlin;
/// use transship::schedule::Cron;
///
/// let cron: Cron = "30 2 * * mon-fri".parse()?;
/// let now: DateTime<Utc> = "2026-03-27T12:00:00Z".parse()?; // A Friday; the clocks change on Sunday.
/// let next = cron.next_after(now, Berlin).ok_or("no firing before the year 2100")?;
/// assert_eq!(next.to_string(), "2026-03-30 00:30:00 UTC", "Monday, 02:30 of summer time");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Cron {
    text: String,
    /// True if the minute or the hour field begins with `*`.
    is_wildcard: bool,
    /// One engine for each day field that is not `*`. If both day fields are `*`, there is one engine.
    engines: Vec<cron::Schedule>,
}

/// Error of parsing a [`Cron`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Six fields: probably with a field for seconds.
    #[error("{0:?} has six fields: seconds are not supported, write five: minute hour day-of-month month day-of-week")]
    Six(String),
    /// Fewer than five fields, or more than six.
    #[error(
        "{expression:?} has {found} {}: expected five: minute hour day-of-month month day-of-week",
        if *.found == 1 { "field" } else { "fields" }
    )]
    Count {
        /// The whole expression.
        expression: String,
        /// The number of fields found.
        found: usize,
    },
    /// An invalid field.
    #[error("{expression:?}: the {field} field: {reason}")]
    Field {
        /// The whole expression.
        expression: String,
        /// The field's name.
        field: &'static str,
        /// The mistake and the remedy.
        reason: String,
    },
    /// An unknown `@name`.
    #[error("{0:?} is not a known name: expected @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually")]
    Name(String),
    /// An expression that the engine rejects although all fields are valid.
    #[error("{expression:?} cannot be scheduled: {reason}")]
    Engine {
        /// The whole expression.
        expression: String,
        /// The engine's reason.
        reason: String,
    },
    /// A date that does not exist in any year.
    #[error(
        "{0:?} never fires: none of its months has such a day; write `never` for an entry that runs only on request"
    )]
    Never(String),
}

impl Cron {
    /// Returns the first firing after `now`, by the wall clock of `timezone`. Returns [`None`] only if there is no
    /// firing before the year 2100.
    #[must_use]
    pub fn next_after(&self, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
        let next = if self.is_wildcard { next_match } else { next_fixed_time };
        self.engines.iter().filter_map(|engine| next(engine, now, timezone)).min()
    }

    /// Returns the last firing after `after`, up to and including `until`.
    pub(super) fn last_within(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
        timezone: Tz,
    ) -> Option<DateTime<Utc>> {
        let within = |instant: &DateTime<Utc>| *instant <= until;
        self.next_after(after, timezone).filter(within)?;
        // Searches backward from `until` in spans of 1, 2, 4, … minutes. The doubling limits the number of engine
        // calls, even if the expression fires every minute.
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

/// Returns the first firing after `now` of an expression with fixed times. A time that the wall clock shows twice fires
/// once.
///
/// The engine calculates without a time zone. Its input and output are times of the wall clock, labelled as UTC.
/// [`first_instant`] converts these times into instants.
fn next_fixed_time(engine: &cron::Schedule, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
    let shown = shown_at(now, timezone).and_utc();
    engine.after(&shown).map(|time| first_instant(time.naive_utc(), timezone)).find(|instant| *instant > now)
}

/// Returns the first firing after `now` of a wildcard expression: the first instant at which the wall clock shows a
/// matching time.
///
/// Between two changes of the zone's offset, the wall clock runs evenly. So the function searches each period between
/// two changes separately.
fn next_match(engine: &cron::Schedule, now: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
    let (mut begin, mut lead) = (now, TimeDelta::zero());
    loop {
        let shown = shown_at(begin, timezone) - lead;
        let wait = engine.after(&shown.and_utc()).next()?.naive_utc() - shown;
        let candidate = (begin - lead).checked_add_signed(wait)?;
        let Some(change) = next_change(begin, candidate, timezone) else { return Some(candidate) };
        // The next search begins a second before the change, because the instant of the change itself may match.
        (begin, lead) = (change, TimeDelta::seconds(1));
    }
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
            let parsed = field.parse(written);
            values.push(parsed.map_err(|reason| CronError::Field {
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
        let expressions = match (fields[2], fields[4]) {
            ("*", "*") => vec![format!("{clock} * {months} *")],
            (_, "*") => vec![format!("{clock} {days} {months} *")],
            ("*", _) => vec![format!("{clock} * {months} {weekdays}")],
            _ => vec![format!("{clock} {days} {months} *"), format!("{clock} * {months} {weekdays}")],
        };
        let invalid =
            |error: cron::error::Error| CronError::Engine { expression: text.to_owned(), reason: error.to_string() };
        let engines = expressions
            .iter()
            .map(|expression| expression.parse().map_err(invalid))
            .collect::<Result<Vec<cron::Schedule>, _>>()?;
        if engines.iter().all(|engine| engine.after(&DateTime::UNIX_EPOCH).next().is_none()) {
            return Err(CronError::Never(text.to_owned()));
        }
        // As in cronie: `*`, `*/5` and `*,30` are wildcards, `0-59` and `30,*/7` are not.
        let is_wildcard = fields[..2].iter().any(|field| field.starts_with('*'));
        Ok(Self { text: text.to_owned(), is_wildcard, engines })
    }
}

fn numbers(values: &BTreeSet<u32>) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// Replaces a name such as `@daily` by its expression.
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

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
