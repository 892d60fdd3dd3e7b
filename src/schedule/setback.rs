//! Detection of a wall clock that was set back: by a person, by NTP, or by resuming a virtual machine. This module
//! reads no clock: the caller passes the time.

use chrono::{DateTime, TimeDelta, Utc};

/// Maximum setback that the detector ignores. Two firings of a schedule are at least this time apart.
const IGNORED_UP_TO: TimeDelta = TimeDelta::minutes(1);

/// Detector of setbacks. Stores the latest instant that the clock has shown.
#[derive(Debug, Clone, Default)]
pub struct Setbacks {
    latest: Option<DateTime<Utc>>,
}

impl Setbacks {
    /// Records a time that the clock has shown, such as a time from the journal.
    pub fn record_instant(&mut self, instant: DateTime<Utc>) {
        self.latest = self.latest.max(Some(instant));
    }

    /// If the clock was set back by more than a minute, returns the size of the setback. Otherwise returns `None`. The
    /// size is the difference between the latest instant and `now`. The detector reports each setback once, because
    /// `now` becomes the latest instant.
    pub fn detect_setback(&mut self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let back = self.latest.map(|latest| latest - now).filter(|back| *back > IGNORED_UP_TO);
        self.latest = if back.is_some() { Some(now) } else { self.latest.max(Some(now)) };
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + number, 0).unwrap()
    }

    #[test]
    fn clock_set_back_is_reported_once_with_whole_distance() {
        let mut setbacks = Setbacks::default();
        assert_eq!(setbacks.detect_setback(second(0)), None);
        assert_eq!(setbacks.detect_setback(second(7200)), None, "set forward");
        assert_eq!(setbacks.detect_setback(second(10)), Some(TimeDelta::seconds(7190)));
        assert_eq!(setbacks.detect_setback(second(11)), None);
        // Small setbacks that add up to more than a minute.
        assert_eq!(setbacks.detect_setback(second(-30)), None);
        assert_eq!(setbacks.detect_setback(second(-49)), None);
        assert_eq!(setbacks.detect_setback(second(-50)), Some(TimeDelta::seconds(61)));
    }

    #[test]
    fn journal_instants_count_as_shown_by_the_clock() {
        let mut setbacks = Setbacks::default();
        setbacks.record_instant(second(100));
        setbacks.record_instant(second(90));
        assert_eq!(setbacks.detect_setback(second(30)), Some(TimeDelta::seconds(70)));
        let mut setbacks = Setbacks::default();
        setbacks.record_instant(second(-100));
        assert_eq!(setbacks.detect_setback(second(0)), None);
    }
}
