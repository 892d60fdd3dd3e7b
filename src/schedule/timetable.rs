//! Timetable: the next firing of each entry. A firing is a time at which the schedule of an entry is due. The timetable
//! starts no runs and never waits: the daemon queries the timetable and starts the runs.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::Schedule;

/// Maximum delay for a firing that is on time. A firing with a longer delay counts as missed.
const MAX_DELAY: TimeDelta = TimeDelta::minutes(1);

/// Timing of one entry's firings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The schedule.
    pub schedule: Schedule,
    /// The time zone of the schedule.
    pub timezone: Tz,
    /// Upper bound of the delay after the scheduled instant: see [`super::jitter_of`].
    pub jitter: Duration,
}

/// Entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The entry's name.
    pub entry: String,
    /// The scheduled instant, without jitter. If several firings were missed, this is the instant of the last missed
    /// firing.
    pub scheduled_at: DateTime<Utc>,
    /// True if at least one firing was not on time. For example, the program was down, or the clock was set forward.
    pub missed: bool,
}

/// Next firing of each entry.
///
/// The step of an entry is the time between two of its firings. If the clock is set back, the size of the setback
/// decides for each entry:
/// - Setback up to the step: the entry does not repeat a firing.
/// - Larger setback: the entry follows the new clock, and may repeat firings.
#[derive(Debug, Clone, Default)]
pub struct Timetable {
    entries: BTreeMap<String, Slot>,
}

/// State of one entry.
#[derive(Debug, Clone)]
struct Slot {
    timing: Timing,
    /// All firings up to this instant are handled. Either the entry fired, or the firing lies before the moment at
    /// which this timing took effect.
    handled_until: DateTime<Utc>,
    /// Firings up to this instant are skipped (see [`Timetable::hold`]). This instant may be in the future.
    skip_until: Option<DateTime<Utc>>,
    /// Cache of the first scheduled instant after both `handled_until` and `skip_until`.
    next: Option<DateTime<Utc>>,
    /// The longer of two waits: from `handled_until` to the next scheduled instant, and from this instant to the
    /// following scheduled instant.
    step: TimeDelta,
}

impl Timetable {
    /// Creates an empty timetable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry or replaces its timing.
    ///
    /// - New entry: `last` is the scheduled instant of the entry's last firing, from the journal. The firings missed
    ///   since then become one firing. If `last` is `None`, the entry first fires at its first scheduled instant after
    ///   `now`.
    /// - Known entry with the same timing: nothing changes.
    /// - Known entry with a changed timing: the new timing applies from `now` on. No firing before `now` counts as
    ///   missed.
    pub fn set(&mut self, entry: &str, timing: Timing, last: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        let (handled_until, skip_until) = match self.entries.get(entry) {
            Some(slot) if slot.timing == timing => return,
            Some(slot) => (slot.handled_until_by(now).max(now), slot.skip_until),
            None => (last.unwrap_or(now), None),
        };
        self.entries.insert(entry.to_owned(), Slot::new(timing, handled_until, skip_until));
    }

    /// Skips the firings of `entry` up to `until`. The skipped firings do not count as missed. If `until` is earlier
    /// than in a previous call, the call has no effect.
    pub fn hold(&mut self, entry: &str, until: DateTime<Utc>) {
        if let Some(slot) = self.entries.get_mut(entry)
            && until > slot.handled_until.max(slot.skip_until.unwrap_or(slot.handled_until))
        {
            *slot = Slot::new(slot.timing.clone(), slot.handled_until, Some(until));
        }
    }

    /// Adjusts the timetable after the clock was set back. The clock now shows `now`, and `by` is the size of the
    /// setback. Each span that [`Timetable::hold`] skips also ends earlier by this size. Returns the number of entries
    /// for which the setback is larger than the step. These entries follow the new clock.
    pub fn set_back(&mut self, now: DateTime<Utc>, by: TimeDelta) -> usize {
        let mut count = 0;
        for slot in self.entries.values_mut() {
            let handled_until = slot.handled_until_by(now);
            count += usize::from(handled_until != slot.handled_until);
            let skip_until = slot.skip_until.and_then(|skip_until| skip_until.checked_sub_signed(by));
            *slot = Slot::new(slot.timing.clone(), handled_until, skip_until);
        }
        count
    }

    /// Removes an entry.
    pub fn remove(&mut self, entry: &str) {
        self.entries.remove(entry);
    }

    /// Returns the names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the entries that are due at `now`, in the order of their scheduled instants, and records their firings
    /// as handled. Several missed firings of an entry become one firing.
    pub fn due(&mut self, now: DateTime<Utc>) -> Vec<Firing> {
        let mut due: Vec<Firing> = Vec::new();
        for (entry, slot) in &mut self.entries {
            due.extend(slot.fire(now).map(|(scheduled_at, missed)| Firing {
                entry: entry.clone(),
                scheduled_at,
                missed,
            }));
        }
        due.sort_by_key(|firing| firing.scheduled_at);
        due
    }

    /// Returns the instant at which the next entry becomes due. Returns `now` if an entry is already due, and [`None`]
    /// if no entry has a next firing.
    ///
    /// The clock may change during the wait. So the caller waits at most a minute and then calls this method again.
    #[must_use]
    pub fn next_wake(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.entries.values().filter_map(|slot| slot.next_due(now)).min().map(|instant| instant.max(now))
    }

    /// Returns the instant at which `entry` becomes due next, including jitter. The instant is in the past if the entry
    /// is already due.
    #[must_use]
    pub fn next_firing(&self, entry: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.entries.get(entry)?.next_due(now)
    }
}

impl Slot {
    fn new(timing: Timing, handled_until: DateTime<Utc>, skip_until: Option<DateTime<Utc>>) -> Self {
        let after = |instant| timing.schedule.next_after(instant, timing.timezone);
        let first = after(handled_until);
        let waits = [Some(handled_until), first, first.and_then(after)];
        let step = waits.windows(2).filter_map(|instants| Some(instants[1]? - instants[0]?)).max().unwrap_or_default();
        let next = match skip_until {
            Some(skip_until) if skip_until > handled_until => after(skip_until),
            _ => first,
        };
        Self { timing, handled_until, skip_until, next, step }
    }

    fn jitter(&self) -> TimeDelta {
        TimeDelta::from_std(self.timing.jitter).unwrap_or_default()
    }

    /// If the clock was set back by more than a step since `handled_until`, returns `now`. Otherwise returns
    /// `handled_until`.
    fn handled_until_by(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.handled_until - now > self.step { now } else { self.handled_until }
    }

    /// Returns a copy of this state. If the clock was set back by more than a step, the copy follows the new clock.
    /// This method handles setbacks for which no caller has called [`Timetable::set_back`].
    fn adjusted_to(&self, now: DateTime<Utc>) -> Self {
        match self.handled_until_by(now) {
            handled_until if handled_until == self.handled_until => self.clone(),
            handled_until => Self::new(self.timing.clone(), handled_until, self.skip_until),
        }
    }

    fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = if self.handled_until > now { self.adjusted_to(now).next } else { self.next };
        next?.checked_add_signed(self.jitter())
    }

    /// If the entry is due, records the firing as handled. Returns the scheduled instant, and true if a firing was
    /// missed.
    fn fire(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        if self.handled_until > now {
            *self = self.adjusted_to(now);
        }
        let until = now.checked_sub_signed(self.jitter())?;
        let first = self.next.filter(|next| *next <= until)?;
        let after = self.handled_until.max(self.skip_until.unwrap_or(self.handled_until));
        let last = self.timing.schedule.last_within(after, until, self.timing.timezone)?;
        let missed = first != last || until - last > MAX_DELAY;
        *self = Self::new(self.timing.clone(), last, self.skip_until);
        Some((last, missed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        format!("2026-05-{text}Z").parse().unwrap()
    }

    fn timing(schedule: &str) -> Timing {
        Timing { schedule: schedule.parse().unwrap(), timezone: Tz::UTC, jitter: Duration::ZERO }
    }

    fn table(schedule: &str, last: Option<&str>, now: &str) -> Timetable {
        let mut table = Timetable::new();
        table.set("a", timing(schedule), last.map(utc), utc(now));
        table
    }

    fn fired(table: &mut Timetable, now: &str) -> Vec<(DateTime<Utc>, bool)> {
        table.due(utc(now)).into_iter().map(|firing| (firing.scheduled_at, firing.missed)).collect()
    }

    #[test]
    fn entry_fires_once_at_its_instant() {
        let mut table = table("0 3 * * *", None, "10T00:00:00");
        assert_eq!(table.next_wake(utc("10T00:00:00")), Some(utc("10T03:00:00")));
        assert_eq!(fired(&mut table, "10T02:59:59"), []);
        assert_eq!(fired(&mut table, "10T03:00:00"), [(utc("10T03:00:00"), false)]);
        assert_eq!(fired(&mut table, "10T03:00:00"), []);
        assert_eq!(table.next_wake(utc("10T03:00:00")), Some(utc("11T03:00:00")));
    }

    #[test]
    fn held_firings_are_skipped_and_never_caught_up() {
        let mut table = table("*/5 * * * *", None, "10T00:00:00");
        table.hold("a", utc("10T00:12:00"));
        assert_eq!(fired(&mut table, "10T00:12:00"), []);
        assert_eq!(fired(&mut table, "10T00:15:00"), [(utc("10T00:15:00"), false)]);
        // An earlier end does not shorten the skipped span.
        table.hold("a", utc("10T00:10:00"));
        assert_eq!(fired(&mut table, "10T00:19:00"), []);
        assert_eq!(table.next_wake(utc("10T00:19:00")), Some(utc("10T00:20:00")));
    }

    #[test]
    fn missed_firings_of_interval_are_caught_up() {
        let mut table = table("every 6h", Some("01T06:00:00"), "01T06:00:01");
        assert_eq!(fired(&mut table, "01T12:00:00"), [(utc("01T12:00:00"), false)]);
        assert_eq!(fired(&mut table, "10T13:00:00"), [(utc("10T12:00:00"), true)]);
        assert_eq!(table.next_wake(utc("10T13:00:00")), Some(utc("10T18:00:00")));
    }

    #[test]
    fn firings_missed_during_downtime_fire_once() {
        let mut table = table("0 3 * * *", Some("01T03:00:00"), "10T12:00:00");
        assert_eq!(table.next_wake(utc("10T12:00:00")), Some(utc("10T12:00:00")));
        assert_eq!(fired(&mut table, "10T12:00:00"), [(utc("10T03:00:00"), true)]);
        assert_eq!(fired(&mut table, "10T12:00:01"), []);
        assert_eq!(table.next_wake(utc("10T12:00:01")), Some(utc("11T03:00:00")));
    }

    #[test]
    fn new_entry_has_no_missed_firing() {
        assert_eq!(fired(&mut table("0 3 * * *", None, "10T12:00:00"), "10T12:00:00"), []);
    }

    #[test]
    fn clock_set_forward_by_days_fires_each_entry_once() {
        let mut table = table("* * * * *", None, "10T00:00:30");
        table.set("b", timing("0 * * * *"), None, utc("10T00:00:30"));
        let firings = table.due(utc("20T00:30:30"));
        let summary: Vec<_> = firings.iter().map(|f| (f.entry.as_str(), f.scheduled_at, f.missed)).collect();
        assert_eq!(summary, [("b", utc("20T00:00:00"), true), ("a", utc("20T00:30:00"), true)]);
        assert_eq!(table.due(utc("20T00:30:40")), []);
    }

    #[test]
    fn setback_within_step_fires_nothing_twice() {
        let mut table = table("0 * * * *", None, "10T00:30:00");
        assert_eq!(fired(&mut table, "10T03:00:00").len(), 1);
        for now in ["10T02:00:00", "10T02:59:00", "10T03:00:30"] {
            assert_eq!(fired(&mut table, now), [], "{now}");
        }
        assert_eq!(fired(&mut table, "10T04:00:00"), [(utc("10T04:00:00"), false)]);
    }

    #[test]
    fn setback_beyond_step_fires_by_new_time() {
        for (schedule, back, next) in [
            ("0 * * * *", "10T01:40:00", "10T02:00:00"),
            ("* * * * *", "10T02:58:30", "10T02:59:00"),
            ("every 1m", "10T02:50:10", "10T02:51:00"),
            ("0 * * * *", "08T00:30:00", "08T01:00:00"),
            ("*/15 2,3 * * *", "09T03:00:00", "09T03:15:00"),
        ] {
            let mut table = table(schedule, None, "10T00:30:00");
            assert_eq!(fired(&mut table, "10T03:00:00").len(), 1, "{schedule}");
            assert_eq!(fired(&mut table, back), [], "{schedule}: setting the clock fires nothing");
            assert_eq!(table.next_firing("a", utc(back)), Some(utc(next)), "{schedule}");
            assert_eq!(fired(&mut table, next), [(utc(next), false)], "{schedule}");
        }
    }

    #[test]
    fn setback_is_compared_with_longer_wait_of_schedule() {
        // The waits of the schedule are 1 hour and 23 hours. Before the setback by two hours, the entry fired at 3 and
        // at 4 o'clock.
        let mut uneven = table("0 3,4 * * *", Some("10T03:00:00"), "10T03:30:00");
        assert_eq!(fired(&mut uneven, "10T04:00:00").len(), 1);
        assert_eq!(fired(&mut uneven, "10T02:00:00"), []);
        assert_eq!(uneven.next_firing("a", utc("10T02:00:00")), Some(utc("11T03:00:00")));
    }

    #[test]
    fn setback_moves_end_of_hold_equally() {
        let mut table = table("* * * * *", None, "10T12:00:00");
        table.hold("a", utc("10T13:00:00"));
        assert_eq!(table.next_firing("a", utc("10T12:00:30")), Some(utc("10T13:01:00")), "a hold is not a setback");
        assert_eq!(table.set_back(utc("10T04:00:30"), TimeDelta::hours(8)), 1);
        assert_eq!(table.next_firing("a", utc("10T04:00:30")), Some(utc("10T05:01:00")));
        assert_eq!(fired(&mut table, "10T05:00:59"), []);
        assert_eq!(fired(&mut table, "10T05:01:00"), [(utc("10T05:01:00"), false)]);
        assert_eq!(table.set_back(utc("10T05:00:10"), TimeDelta::minutes(1)), 0, "within a step");
    }

    #[test]
    fn clock_formerly_years_ahead_does_not_silence_entry() {
        let future = "2031-01-01T00:00:30Z".parse().unwrap();
        let mut table = Timetable::new();
        table.set("a", timing("0 * * * *"), Some(future), utc("10T00:30:00"));
        assert_eq!(table.next_wake(utc("10T00:30:00")), Some(utc("10T01:00:00")));
        assert_eq!(fired(&mut table, "10T00:30:00"), []);
        assert_eq!(fired(&mut table, "10T01:00:00"), [(utc("10T01:00:00"), false)]);
    }

    #[test]
    fn jitter_delays_firing_but_not_its_scheduled_instant() {
        let mut table = Timetable::new();
        let jittered = Timing { jitter: Duration::from_secs(90), ..timing("*/5 * * * *") };
        table.set("a", jittered, None, utc("10T00:02:00"));
        assert_eq!(table.next_wake(utc("10T00:02:00")), Some(utc("10T00:06:30")));
        assert_eq!(fired(&mut table, "10T00:06:29"), []);
        assert_eq!(fired(&mut table, "10T00:06:30"), [(utc("10T00:05:00"), false)]);
        // At 00:11 the firing of 00:10 is still pending.
        assert_eq!(fired(&mut table, "10T00:11:00"), []);
    }

    #[test]
    fn changed_timing_counts_from_now_on() {
        let mut table = table("0 3 * * *", None, "10T00:00:00");
        table.set("a", timing("0 3 * * *"), None, utc("10T05:00:00"));
        assert_eq!(table.next_wake(utc("10T05:00:00")), Some(utc("10T05:00:00")), "the missed firing is still due");
        table.set("a", timing("0 4 * * *"), None, utc("10T05:00:00"));
        assert_eq!(table.next_firing("a", utc("10T05:00:00")), Some(utc("11T04:00:00")));
        table.set("a", timing("never"), None, utc("10T05:00:00"));
        assert_eq!(table.next_wake(utc("10T05:00:00")), None);
        assert_eq!(fired(&mut table, "30T05:00:00"), []);
        table.remove("a");
        assert_eq!(table.names().count(), 0);
    }

    #[test]
    fn blocked_loop_reports_the_firing_it_missed() {
        let mut table = table("*/10 * * * *", None, "10T00:01:00");
        assert_eq!(fired(&mut table, "10T00:14:00"), [(utc("10T00:10:00"), true)]);
        assert_eq!(fired(&mut table, "10T00:20:59"), [(utc("10T00:20:00"), false)]);
    }
}
