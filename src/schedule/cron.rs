//! Cron expressions of five fields, as POSIX has them, on an engine of another dialect.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::fields::{FIELDS, WEEKDAYS};

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
    /// The engine refuses what all fields agreed to; the reason is its own.
    #[error("{expression:?} cannot be scheduled: {reason}")]
    Engine {
        /// The whole expression.
        expression: String,
        /// The engine's reason.
        reason: String,
    },
    /// No day of the calendar fits.
    #[error(
        "{0:?} never fires: no month that it names has such a day; write `never` for an entry that runs by hand only"
    )]
    Never(String),
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
        let refused =
            |error: cron::error::Error| CronError::Engine { expression: text.to_owned(), reason: error.to_string() };
        let engines =
            lines.iter().map(|line| line.parse().map_err(refused)).collect::<Result<Vec<cron::Schedule>, _>>()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn next(cron: &str, now: &str) -> DateTime<Utc> {
        cron.parse::<Cron>().unwrap().next_after(at(now), Berlin).unwrap()
    }

    fn message(text: &str) -> String {
        text.parse::<Cron>().unwrap_err().to_string()
    }

    #[test]
    fn an_expression_fires_by_the_wall_clock_of_its_zone_and_prints_as_written() {
        assert_eq!(next("0 3 * * *", "2026-01-10T00:00:00Z"), at("2026-01-10T02:00:00Z"));
        assert_eq!(next("0 3 * * *", "2026-07-10T00:00:00Z"), at("2026-07-10T01:00:00Z"));
        assert_eq!(next("0 3 * * *", "2026-07-10T01:00:00Z"), at("2026-07-11T01:00:00Z"));
        assert_eq!(next("0 3 * * *", "2026-07-10T01:00:00.5Z"), at("2026-07-11T01:00:00Z"));
        assert_eq!(next("0 3 * * *", "2026-07-10T00:59:59.5Z"), at("2026-07-10T01:00:00Z"));
        assert_eq!("*/10  2 * * MON".parse::<Cron>().unwrap().to_string(), "*/10  2 * * MON");
    }

    #[test]
    fn a_time_in_the_spring_gap_fires_at_the_first_instant_after_it_and_only_once() {
        // 2026-03-29: 02:00 to 03:00 does not exist in Berlin.
        let end = "2026-03-29T01:00:00Z";
        for cron in ["30 2 * * *", "0 2 * * *", "*/10 2 * * *"] {
            assert_eq!(next(cron, "2026-03-29T00:59:00Z"), at(end), "{cron}");
            assert_eq!(next(cron, end).date_naive().to_string(), "2026-03-30", "{cron}");
        }
    }

    #[test]
    fn a_time_that_autumn_brings_twice_fires_the_first_time_only() {
        // 2026-10-25: 02:00 to 03:00 comes twice in Berlin, first at 00:00 UTC.
        assert_eq!(next("30 2 * * *", "2026-10-24T23:00:00Z"), at("2026-10-25T00:30:00Z"));
        assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z"), at("2026-10-26T01:30:00Z"));
        assert_eq!(next("30 2 * * *", "2026-10-25T01:10:00Z"), at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn when_both_day_fields_are_restricted_either_fires() {
        // 2026-01-13 is a Tuesday, 2026-01-16 the first Friday after it.
        assert_eq!(next("0 12 13 * 5", "2026-01-10T00:00:00Z"), at("2026-01-13T11:00:00Z"));
        assert_eq!(next("0 12 13 * 5", "2026-01-14T00:00:00Z"), at("2026-01-16T11:00:00Z"));
        // One day that never comes does not silence the other.
        assert_eq!(next("0 12 31 2 5", "2026-01-14T00:00:00Z"), at("2026-02-06T11:00:00Z"));
    }

    #[test]
    fn sunday_is_0_and_7_and_names_stand_for_numbers() {
        for cron in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly"] {
            assert_eq!(next(cron, "2026-01-10T12:00:00Z"), at("2026-01-10T23:00:00Z"), "{cron}");
        }
        assert_eq!(next("0 0 * jan-mar fri-7", "2026-01-11T12:00:00Z"), at("2026-01-15T23:00:00Z"));
    }

    #[test]
    fn the_known_names_are_expressions() {
        let pairs = [
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@midnight", "0 0 * * *"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ];
        for (name, cron) in pairs {
            assert_eq!(next(name, "2026-05-05T05:05:05Z"), next(cron, "2026-05-05T05:05:05Z"), "{name}");
        }
    }

    #[test]
    fn a_malformed_expression_is_refused_with_its_field_and_the_way_out() {
        assert_eq!(
            message("0 */5 * * * *"),
            r#""0 */5 * * * *" has six fields: seconds are not supported, write five: minute hour day-of-month month day-of-week"#
        );
        assert_eq!(
            message("daily"),
            r#""daily" has 1 field: expected five: minute hour day-of-month month day-of-week"#
        );
        assert_eq!(message(""), r#""" has 0 fields: expected five: minute hour day-of-month month day-of-week"#);
        assert_eq!(
            message("@noon"),
            r#""@noon" is not a known name: expected @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually"#
        );
        assert_eq!(message("60 * * * *"), r#""60 * * * *": the minute field: `60` is out of range: expected 0 to 59"#);
        assert_eq!(message("0 24 * * *"), r#""0 24 * * *": the hour field: `24` is out of range: expected 0 to 23"#);
        assert_eq!(
            message("0 0 0 * *"),
            r#""0 0 0 * *": the day of month field: `0` is out of range: expected 1 to 31"#
        );
        assert_eq!(
            message("0 0 * foo *"),
            r#""0 0 * foo *": the month field: `foo` is not understood: expected 1 to 12 or jan to dec, `*`, `a-b`, `*/n` or a list"#
        );
        assert_eq!(
            message("0 0 * * 5-1"),
            r#""0 0 * * 5-1": the day of week field: `5-1` runs backwards: write `5-7,0-1`"#
        );
        assert_eq!(
            message("5/15 * * * *"),
            r#""5/15 * * * *": the minute field: `5/15` has a step without a range: write `5-59/15`"#
        );
        assert_eq!(
            message("*/0 * * * *"),
            r#""*/0 * * * *": the minute field: `*/0` has no step: expected a number above 0 behind `/`"#
        );
        assert_eq!(
            message("0 0 ? * 1"),
            r#""0 0 ? * 1": the day of month field: `?` is not of this dialect: write `*`"#
        );
        assert_eq!(
            message("0 3 31 2 *"),
            r#""0 3 31 2 *" never fires: no month that it names has such a day; write `never` for an entry that runs by hand only"#
        );
        assert!("0 3 31 4,6,9,11 *".parse::<Cron>().is_err());
        assert!("0 3 29 2 *".parse::<Cron>().is_ok());
        for bad in ["* * * * *,", "-1 * * * *", "1- * * * *", "*/ * * * *", "1-2-3 * * * *", "+1 * * * *", "* * * * l"]
        {
            assert!(bad.parse::<Cron>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_firing_of_a_span_is_the_one_that_counting_forward_finds() {
        let cron: Cron = "*/7 3-5 * * 1-5".parse().unwrap();
        let after = at("2026-01-10T00:00:00Z");
        let until = at("2026-01-20T03:33:00Z");
        let counted = std::iter::successors(cron.next_after(after, Berlin), |at| cron.next_after(*at, Berlin))
            .take_while(|at| *at <= until)
            .last();
        assert_eq!(cron.last_within(after, until, Berlin), counted);
        assert_eq!(cron.last_within(after, after + TimeDelta::minutes(5), Berlin), None);
        assert_eq!(cron.last_within(until, after, Berlin), None);
    }

    fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
        let value = first..=last;
        let pair = (value.clone(), value.clone()).prop_map(|(a, b)| (a.min(b), a.max(b)));
        let item = prop_oneof![
            2 => value.clone().prop_map(|value| value.to_string()),
            1 => pair.clone().prop_map(|(a, b)| format!("{a}-{b}")),
            1 => (pair, 1..9_u32).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
            1 => (2..9_u32).prop_map(|step| format!("*/{step}")),
        ];
        prop_oneof![2 => Just("*".to_owned()), 3 => proptest::collection::vec(item, 1..4).prop_map(|items| items.join(","))]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 4000,
            failure_persistence: None,
            rng_seed: proptest::test_runner::RngSeed::Fixed(7),
            ..ProptestConfig::default()
        })]

        #[test]
        fn firings_agree_with_another_implementation(
            fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)),
            begin in 1_700_000_000_i64..1_900_000_000,
        ) {
            let (minute, hour, day, month, weekday) = fields;
            let text = format!("{minute} {hour} {day} {month} {weekday}");
            let mut now = DateTime::from_timestamp(begin, 0).unwrap();
            let theirs: croner::Cron = text.parse().unwrap();
            match text.parse::<Cron>() {
                Ok(ours) => for _ in 0..4 {
                    let oracle = theirs.find_next_occurrence(&now, false).ok();
                    let next = ours.next_after(now, Tz::UTC);
                    prop_assert_eq!(next, oracle, "{} after {}", text, now);
                    let Some(next) = next else { break };
                    now = next;
                },
                Err(error) => {
                    prop_assert!(matches!(error, CronError::Never(_)), "{}", error);
                    prop_assert!(theirs.find_next_occurrence(&now, false).is_err(), "{}", text);
                }
            }
        }

        #[test]
        fn firings_only_go_forward_in_every_zone(
            minute in field(0, 59), hour in field(0, 23), begin in 1_700_000_000_i64..1_900_000_000, zone in 0..chrono_tz::TZ_VARIANTS.len(),
        ) {
            let cron: Cron = format!("{minute} {hour} * * *").parse().unwrap();
            let mut now = DateTime::from_timestamp(begin, 0).unwrap();
            for _ in 0..6 {
                let next = cron.next_after(now, chrono_tz::TZ_VARIANTS[zone]).unwrap();
                prop_assert!(next > now && next - now < TimeDelta::hours(50));
                now = next;
            }
        }
    }
}
