//! Wall clock of a time zone: the time that the clock shows at an instant, and the changes of the zone's offset, such
//! as daylight saving time.

use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// Time between two checks of a zone's offset. No zone changes its offset twice within this time.
const STRIDE: TimeDelta = TimeDelta::hours(12);

/// Returns the time that the wall clock shows at `instant`.
pub(super) fn shown_at(instant: DateTime<Utc>, timezone: Tz) -> NaiveDateTime {
    instant.with_timezone(&timezone).naive_local()
}

/// Returns the first instant at which the wall clock shows `time`. If the clock skips `time`, returns the first instant
/// at which the clock shows a later time.
pub(super) fn first_instant(time: NaiveDateTime, timezone: Tz) -> DateTime<Utc> {
    // The longest gap is one day: Samoa skipped a whole day in 2011.
    let shown = (0..=25 * 60).find_map(|minutes| {
        let later = time.checked_add_signed(TimeDelta::minutes(minutes))?;
        timezone.from_local_datetime(&later).earliest()
    });
    shown.map_or_else(|| time.and_utc(), |instant| instant.to_utc())
}

/// Returns the first instant at which the zone's offset from UTC differs from the offset at `after`, exact to the
/// second. Searches up to and including `until`.
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
    // The search uses whole seconds, because the rules of a zone use whole seconds.
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

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn next_change_is_exact_to_the_second() {
        let (year, end) = (utc("2026-01-01T00:00:00.5Z"), utc("2027-01-01T00:00:00Z"));
        let spring = next_change(year, end, Berlin).unwrap();
        assert_eq!(spring, utc("2026-03-29T01:00:00Z"));
        assert_eq!(next_change(spring, end, Berlin), Some(utc("2026-10-25T01:00:00Z")));
        assert_eq!(next_change(utc("2026-10-25T01:00:00Z"), end, Berlin), None);
        assert_eq!(next_change(year, spring, Berlin), Some(spring), "the end belongs to the span");
        assert_eq!(next_change(year, spring - TimeDelta::seconds(1), Berlin), None);
        assert_eq!(next_change(year, end, Tz::UTC), None);
    }
}
