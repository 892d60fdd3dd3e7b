//! Notices that the wall clock was set back: by a person, by NTP, or with a virtual machine that is resumed. It reads no clock.

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that goes back by no more than this is not spoken of: no schedule has a shorter step.
const NOT_SPOKEN_OF: TimeDelta = TimeDelta::minutes(1);

/// The latest instant that a clock has shown.
#[derive(Debug, Clone, Default)]
pub struct Setbacks {
    latest: Option<DateTime<Utc>>,
}

impl Setbacks {
    /// Notes an instant that the clock has shown before, as the journal has it.
    pub fn has_been(&mut self, instant: DateTime<Utc>) {
        self.latest = self.latest.max(Some(instant));
    }

    /// How far the clock went back since the latest instant that it has shown, where that is more than a minute. Each time that it is
    /// set back is told once: from then on the new time counts.
    pub fn look(&mut self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let back = self.latest.map(|latest| latest - now).filter(|back| *back > NOT_SPOKEN_OF);
        self.latest = if back.is_some() { Some(now) } else { self.latest.max(Some(now)) };
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn clock_set_back_is_noticed_once_by_its_whole_distance() {
        let mut setbacks = Setbacks::default();
        assert_eq!(setbacks.look(at(0)), None);
        assert_eq!(setbacks.look(at(7200)), None, "set forward");
        assert_eq!(setbacks.look(at(10)), Some(TimeDelta::seconds(7190)));
        assert_eq!(setbacks.look(at(11)), None);
        // Small steps that add up.
        assert_eq!(setbacks.look(at(-30)), None);
        assert_eq!(setbacks.look(at(-49)), None);
        assert_eq!(setbacks.look(at(-50)), Some(TimeDelta::seconds(61)));
    }

    #[test]
    fn instants_of_the_journal_count_as_shown() {
        let mut setbacks = Setbacks::default();
        setbacks.has_been(at(100));
        setbacks.has_been(at(90));
        assert_eq!(setbacks.look(at(30)), Some(TimeDelta::seconds(70)));
        let mut setbacks = Setbacks::default();
        setbacks.has_been(at(-100));
        assert_eq!(setbacks.look(at(0)), None);
    }
}
