//! Tests of cron expressions: parsing, errors, firings, and firings in the nights of clock changes.

use super::*;
use chrono_tz::Europe::Berlin;
use proptest::prelude::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn next(cron: &str, now: &str) -> DateTime<Utc> {
    cron.parse::<Cron>().unwrap().next_after(utc(now), Berlin).unwrap()
}

fn message(text: &str) -> String {
    text.parse::<Cron>().unwrap_err().to_string()
}

#[test]
fn expression_fires_by_wall_clock_and_prints_as_written() {
    assert_eq!(next("0 3 * * *", "2026-01-10T00:00:00Z"), utc("2026-01-10T02:00:00Z"));
    assert_eq!(next("0 3 * * *", "2026-07-10T00:00:00Z"), utc("2026-07-10T01:00:00Z"));
    assert_eq!(next("0 3 * * *", "2026-07-10T01:00:00Z"), utc("2026-07-11T01:00:00Z"));
    assert_eq!(next("0 3 * * *", "2026-07-10T01:00:00.5Z"), utc("2026-07-11T01:00:00Z"));
    assert_eq!(next("0 3 * * *", "2026-07-10T00:59:59.5Z"), utc("2026-07-10T01:00:00Z"));
    assert_eq!("*/10  2 * * MON".parse::<Cron>().unwrap().to_string(), "*/10  2 * * MON");
}

/// Returns the firings after `from` up to and including `to` in Berlin, as UTC day, hour and minute.
fn firings_between(cron: &str, from: &str, to: &str) -> Vec<String> {
    let cron: Cron = cron.parse().unwrap();
    std::iter::successors(cron.next_after(utc(from), Berlin), |instant| cron.next_after(*instant, Berlin))
        .take_while(|instant| *instant <= utc(to))
        .map(|instant| instant.format("%d %H:%M").to_string())
        .collect()
}

#[test]
fn fixed_time_in_spring_gap_fires_after_it() {
    // 2026-03-29: 02:00 to 03:00 does not exist in Berlin.
    let end = "2026-03-29T01:00:00Z";
    for cron in ["30 2 * * *", "0 2 * * *", "0,10,50 2 * * *", "5-55/5 2 * * *", "0,30 2,3 29 3 *"] {
        assert_eq!(next(cron, "2026-03-29T00:59:00Z"), utc(end), "{cron}");
    }
    for cron in ["30 2 * * *", "0 2 * * *", "0,10,50 2 * * *"] {
        assert_eq!(next(cron, end).date_naive().to_string(), "2026-03-30", "{cron}");
    }
    // A time within the gap and the time right after the gap have one common firing.
    assert_eq!(
        firings_between("0 0-23 * * *", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
        ["29 01:00", "29 02:00"]
    );
}

#[test]
fn fixed_time_repeated_in_autumn_fires_in_first_pass() {
    // 2026-10-25: 02:00 to 03:00 occurs twice in Berlin, first at 00:00 UTC.
    assert_eq!(next("30 2 * * *", "2026-10-24T23:00:00Z"), utc("2026-10-25T00:30:00Z"));
    assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z"), utc("2026-10-26T01:30:00Z"));
    assert_eq!(next("30 2 * * *", "2026-10-25T01:10:00Z"), utc("2026-10-26T01:30:00Z"));
    assert_eq!(
        firings_between("15,45 2,3 * * *", "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z"),
        ["25 00:15", "25 00:45", "25 02:15", "25 02:45"]
    );
}

#[test]
fn wildcard_schedule_fires_in_both_passes_of_autumn() {
    let night = ("2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
    let firings = |cron| firings_between(cron, night.0, night.1);
    assert_eq!(firings("*/5 * * * *").len(), 48, "every five minutes of four hours");
    assert_eq!(firings("0 * * * *"), ["25 00:00", "25 01:00", "25 02:00", "25 03:00"]);
    assert_eq!(firings("17 */2 * * *"), ["25 00:17", "25 01:17"], "02:17 occurs twice");
    assert_eq!(firings("*/30 2 * * *"), ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]);
    assert_eq!(firings("@hourly").len(), 4);
    // The search begins within the second pass.
    assert_eq!(next("*/30 2 * * *", "2026-10-25T01:10:00Z"), utc("2026-10-25T01:30:00Z"));
}

#[test]
fn wildcard_schedule_skips_the_hour_skipped_in_spring() {
    let night = ("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
    let firings = |cron| firings_between(cron, night.0, night.1);
    assert_eq!(firings("*/5 * * * *").len(), 36, "every five minutes of three hours");
    assert_eq!(firings("0 * * * *"), ["29 01:00", "29 02:00", "29 03:00"]);
    assert_eq!(firings("17 */2 * * *"), ["29 02:17"], "02:17 is skipped, and 04:17 fires");
    assert_eq!(firings("*/30 2 * * *"), Vec::<String>::new());
}

#[test]
fn field_beginning_with_star_is_wildcard_as_in_cronie() {
    let twice = |cron: &str| firings_between(cron, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z").len();
    for cron in ["30 * * * *", "30 */2 * * *", "30 *,5 * * *", "*/30 2 * * *", "*,5 2 * * *"] {
        assert!(twice(cron) > 1, "{cron}");
    }
    for cron in ["30 0-23 * * *", "30 2,*/7 * * *", "30 2-2/2 * * *"] {
        assert_eq!(twice(cron), 1, "{cron}");
    }
}

#[test]
fn expression_with_both_day_fields_fires_on_either() {
    // 2026-01-13 is a Tuesday, and 2026-01-16 is the next Friday.
    assert_eq!(next("0 12 13 * 5", "2026-01-10T00:00:00Z"), utc("2026-01-13T11:00:00Z"));
    assert_eq!(next("0 12 13 * 5", "2026-01-14T00:00:00Z"), utc("2026-01-16T11:00:00Z"));
    // If the days of one field never occur, the other field still fires.
    assert_eq!(next("0 12 31 2 5", "2026-01-14T00:00:00Z"), utc("2026-02-06T11:00:00Z"));
}

#[test]
fn sunday_is_0_and_7_and_names_equal_numbers() {
    for cron in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly"] {
        assert_eq!(next(cron, "2026-01-10T12:00:00Z"), utc("2026-01-10T23:00:00Z"), "{cron}");
    }
    assert_eq!(next("0 0 * jan-mar fri-7", "2026-01-11T12:00:00Z"), utc("2026-01-15T23:00:00Z"));
}

#[test]
fn known_names_equal_their_expressions() {
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
fn malformed_expression_error_names_field_and_remedy() {
    assert_eq!(
        message("0 */5 * * * *"),
        "\"0 */5 * * * *\" has six fields: seconds are not supported, write five: \
         minute hour day-of-month month day-of-week"
    );
    assert_eq!(message("daily"), r#""daily" has 1 field: expected five: minute hour day-of-month month day-of-week"#);
    assert_eq!(message(""), r#""" has 0 fields: expected five: minute hour day-of-month month day-of-week"#);
    assert_eq!(
        message("@noon"),
        r#""@noon" is not a known name: expected @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually"#
    );
    assert_eq!(message("60 * * * *"), r#""60 * * * *": the minute field: `60` is out of range: expected 0 to 59"#);
    assert_eq!(message("0 24 * * *"), r#""0 24 * * *": the hour field: `24` is out of range: expected 0 to 23"#);
    assert_eq!(message("0 0 0 * *"), r#""0 0 0 * *": the day of month field: `0` is out of range: expected 1 to 31"#);
    assert_eq!(
        message("0 0 * foo *"),
        "\"0 0 * foo *\": the month field: `foo` is not a valid value: \
         expected 1 to 12 or jan to dec, `*`, `a-b`, `*/n` or a list"
    );
    assert_eq!(
        message("0 0 * * 5-1"),
        r#""0 0 * * 5-1": the day of week field: `5-1` is a descending range: write `5-7,0-1`"#
    );
    assert_eq!(
        message("5/15 * * * *"),
        r#""5/15 * * * *": the minute field: `5/15` has a step without a range: write `5-59/15`"#
    );
    assert_eq!(
        message("*/0 * * * *"),
        r#""*/0 * * * *": the minute field: `*/0` has no valid step: expected a number above 0 after `/`"#
    );
    assert_eq!(message("0 0 ? * 1"), r#""0 0 ? * 1": the day of month field: `?` is not supported: write `*`"#);
    assert_eq!(
        message("0 3 31 2 *"),
        "\"0 3 31 2 *\" never fires: none of its months has such a day; \
         write `never` for an entry that runs only on request"
    );
    assert!("0 3 31 4,6,9,11 *".parse::<Cron>().is_err());
    assert!("0 3 29 2 *".parse::<Cron>().is_ok());
    for bad in ["* * * * *,", "-1 * * * *", "1- * * * *", "*/ * * * *", "1-2-3 * * * *", "+1 * * * *", "* * * * l"] {
        assert!(bad.parse::<Cron>().is_err(), "{bad:?}");
    }
}

#[test]
fn last_firing_of_span_agrees_with_forward_search() {
    let cron: Cron = "*/7 3-5 * * 1-5".parse().unwrap();
    let after = utc("2026-01-10T00:00:00Z");
    let until = utc("2026-01-20T03:33:00Z");
    let counted = std::iter::successors(cron.next_after(after, Berlin), |instant| cron.next_after(*instant, Berlin))
        .take_while(|instant| *instant <= until)
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

/// Generates a field that begins with `*`.
fn star(last: u32) -> impl Strategy<Value = String> {
    prop_oneof![1 => Just("*".to_owned()), 2 => (2..last / 2).prop_map(|step| format!("*/{step}"))]
}

fn number_list(last: u32) -> impl Strategy<Value = String> {
    // Prefers the early hours, because clocks change in these hours.
    let number = prop_oneof![0..=last.min(4), 0..=last];
    proptest::collection::btree_set(number, 1..4).prop_map(|values| numbers(&values))
}

/// Zones with clock changes: by an hour, by half an hour, at midnight, and in the opposite direction.
const CHANGING: [Tz; 6] = [
    Berlin,
    Tz::America__New_York,
    Tz::America__Havana,
    Tz::Africa__Casablanca,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Chatham,
];

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
        let oracle: croner::Cron = text.parse().unwrap();
        match text.parse::<Cron>() {
            Ok(cron) => for _ in 0..4 {
                let expected = oracle.find_next_occurrence(&now, false).ok();
                let next = cron.next_after(now, Tz::UTC);
                prop_assert_eq!(next, expected, "{} after {}", text, now);
                let Some(next) = next else { break };
                now = next;
            },
            Err(error) => {
                prop_assert!(matches!(error, CronError::Never(_)), "{}", error);
                prop_assert!(oracle.find_next_occurrence(&now, false).is_err(), "{}", text);
            }
        }
    }

    /// Croner treats an expression as fixed only if its minute and hour are one number each. Cronie and this crate also
    /// treat lists of numbers as fixed. So the test makes one croner expression for each time in the lists. The
    /// earliest firing of these expressions is the expected firing.
    #[test]
    fn firings_at_clock_changes_agree_with_another_implementation(
        (minute, hour) in prop_oneof![
            (star(59), field(0, 23)),
            (field(0, 59), star(23)),
            (number_list(59), number_list(23)),
        ],
        day in prop_oneof![3 => Just("*".to_owned()), 1 => field(1, 31)],
        weekday in prop_oneof![3 => Just("*".to_owned()), 1 => field(0, 7)],
        (zone, seconds) in (0..CHANGING.len(), 0..3 * 24 * 3600_i64),
        year in 0..6_i64,
    ) {
        let zone = CHANGING[zone];
        let begin = utc("2024-01-01T00:00:00Z") + TimeDelta::days(183 * year);
        let change = next_change(begin, begin + TimeDelta::days(400), zone).unwrap();
        let mut now = change - TimeDelta::seconds(seconds);
        let is_wildcard = minute.starts_with('*') || hour.starts_with('*');
        let oracles: Vec<croner::Cron> = if is_wildcard {
            vec![format!("{minute} {hour} {day} * {weekday}").parse().unwrap()]
        } else {
            let times = minute.split(',').flat_map(|minute| hour.split(',').map(move |hour| (minute, hour)));
            times.map(|(minute, hour)| format!("{minute} {hour} {day} * {weekday}").parse().unwrap()).collect()
        };
        let cron: Cron = format!("{minute} {hour} {day} * {weekday}").parse().unwrap();
        for _ in 0..8 {
            let local = now.with_timezone(&zone);
            let expected = oracles.iter().filter_map(|oracle| oracle.find_next_occurrence(&local, false).ok()).min();
            let next = cron.next_after(now, zone);
            prop_assert_eq!(next, expected.map(|instant| instant.to_utc()), "{} in {} after {}", cron, zone, now);
            let Some(next) = next else { break };
            now = next;
        }
    }

    #[test]
    fn firings_only_go_forward_in_every_zone(
        minute in field(0, 59), hour in field(0, 23), begin in 1_700_000_000_i64..1_900_000_000,
        zone in 0..chrono_tz::TZ_VARIANTS.len(),
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

proptest! {
    // Each case checks several hundred minutes.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    /// Compares the firings with their definition: all minutes at which the wall clock shows a matching time.
    #[test]
    fn wildcard_fires_at_each_matching_minute_in_every_zone(
        (minute, hour) in prop_oneof![(star(59), field(0, 23)), (field(0, 59), star(23))],
        zone in 0..chrono_tz::TZ_VARIANTS.len(), begin in 1_700_000_000_i64..1_900_000_000, hours in 0..6_i64,
    ) {
        let (cron, zone): (Cron, _) = (format!("{minute} {hour} * * *").parse().unwrap(), chrono_tz::TZ_VARIANTS[zone]);
        let begin = DateTime::from_timestamp(begin / 60 * 60, 0).unwrap();
        // If the zone changes its clock, begins right before a change.
        let change = next_change(begin, begin + TimeDelta::days(400), zone).unwrap_or(begin);
        let (from, to) = (change - TimeDelta::hours(hours), change + TimeDelta::hours(6));
        let second = TimeDelta::seconds(1);
        let shows = |instant: &DateTime<Utc>| {
            let shown = shown_at(*instant, zone).and_utc();
            cron.next_after(shown - second, Tz::UTC) == Some(shown)
        };
        let minutes = (1..).map(|minute| from + TimeDelta::minutes(minute)).take_while(|instant| *instant <= to);
        let expected: Vec<_> = minutes.filter(shows).collect();
        let found: Vec<_> = std::iter::successors(cron.next_after(from, zone), |now| cron.next_after(*now, zone))
            .take_while(|instant| *instant <= to)
            .collect();
        prop_assert_eq!(found, expected, "{} in {} from {}", cron, zone, from);
    }
}
