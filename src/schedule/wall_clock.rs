//! The wall clock of a time zone: what it shows at an instant, and its changes (daylight saving time, and moves of a zone).

use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// The distance between two looks at a zone's offset. No zone changes its offset and changes it back within that time.
const STRIDE: TimeDelta = TimeDelta::hours(12);

/// The time that the wall clock shows at `instant`.
pub(super) fn shown_at(instant: DateTime<Utc>, timezone: Tz) -> NaiveDateTime {
    instant.with_timezone(&timezone).naive_local()
}

/// The first instant at which the wall clock shows `time` or, where the clock skips that time, has gone past it.
pub(super) fn first_instant(time: NaiveDateTime, timezone: Tz) -> DateTime<Utc> {
    // No gap is longer than the day that Samoa left out.
    let shown = (0..=25 * 60).find_map(|minutes| {
        let later = time.checked_add_signed(TimeDelta::minutes(minutes))?;
        timezone.from_local_datetime(&later).earliest()
    });
    shown.map_or_else(|| time.and_utc(), |instant| instant.to_utc())
}

/// The first instant after `after` and not after `until` at which the zone's offset from UTC is another one than at `after`, to the
/// second.
pub(super) fn next_change(after: DateTime<Utc>, until: DateTime<Utc>, timezone: Tz) -> Option<DateTime<Utc>> {
    let offset = |instant: DateTime<Utc>| timezone.offset_from_utc_datetime(&instant.naive_utc()).fix();
    let before = offset(after);
    let mut same = after;
    let mut changed = loop {
        if same >= until {
            return None;
        }
        let next = same.checked_add_signed(STRIDE).map_or(until, |next| next.min(until));
        if offset(next) != before {
            break next;
        }
        same = next;
    };
    // Whole seconds, so that the change is found as it is written in the zone's rules.
    let second = |instant: DateTime<Utc>| instant.timestamp();
    let (mut same, mut first) = (second(same), second(changed));
    while first - same > 1 {
        let middle = same + (first - same) / 2;
        let instant = DateTime::from_timestamp(middle, 0)?;
        if offset(instant) == before { same = middle } else { (first, changed) = (middle, instant) }
    }
    Some(DateTime::from_timestamp(first, 0).unwrap_or(changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn next_change_is_the_second_at_which_the_offset_changes() {
        let (year, end) = (at("2026-01-01T00:00:00.5Z"), at("2027-01-01T00:00:00Z"));
        let spring = next_change(year, end, Berlin).unwrap();
        assert_eq!(spring, at("2026-03-29T01:00:00Z"));
        assert_eq!(next_change(spring, end, Berlin), Some(at("2026-10-25T01:00:00Z")));
        assert_eq!(next_change(at("2026-10-25T01:00:00Z"), end, Berlin), None);
        assert_eq!(next_change(year, spring, Berlin), Some(spring), "the end belongs to the span");
        assert_eq!(next_change(year, spring - TimeDelta::seconds(1), Berlin), None);
        assert_eq!(next_change(year, end, Tz::UTC), None);
    }
}
