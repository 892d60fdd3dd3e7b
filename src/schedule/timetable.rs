//! Timetable: the next firing of each entry. Starts nothing and waits for nothing; the daemon queries it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::Schedule;

/// Largest delay after its instant with which a firing counts as punctual; a later one is missed.
const PUNCTUAL: TimeDelta = TimeDelta::minutes(1);

/// Timing of one entry's firings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The schedule.
    pub schedule: Schedule,
    /// The zone whose wall clock the schedule uses.
    pub timezone: Tz,
    /// The upper bound of the delay after the scheduled instant: see [`super::jitter_of`].
    pub jitter: Duration,
}

/// Entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The entry's name.
    pub entry: String,
    /// The instant that its schedule names, without jitter; the last one if several passed.
    pub scheduled_at: DateTime<Utc>,
    /// True if a firing was not on time: the program was down or blocked, or the clock was set forward.
    pub missed: bool,
}

/// Entries and the instants of their next firings.
///
/// An entry's step is the time between two of its firings. After the clock is set back, there are two cases:
/// - By no more than the entry's step: nothing fires a second time.
/// - By more: the earlier time was wrong, and waiting until it comes again would silence the entry. The entry fires by
///   the new time.
#[derive(Debug, Clone, Default)]
pub struct Timetable {
    entries: BTreeMap<String, Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    timing: Timing,
    /// The instant up to which all firings have happened or do not count.
    settled: DateTime<Utc>,
    /// The instant up to which firings are deliberately skipped; may be in the future.
    held: Option<DateTime<Utc>>,
    /// The first scheduled instant after `settled` and `held`, cached because it is read far more often than it
    /// changes.
    next: Option<DateTime<Utc>>,
    /// The longer of the two waits between the first three scheduled instants from `settled` on.
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
    /// `last` is the scheduled instant of the entry's last firing, from the journal: the firings missed since then
    /// become one firing. Without it, the entry waits for its first instant after `now`. An entry with unchanged
    /// timing keeps its state. An entry whose timing changed continues from `now`, because the new schedule has
    /// missed nothing.
    pub fn set(&mut self, entry: &str, timing: Timing, last: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        let (settled, held) = match self.entries.get(entry) {
            Some(slot) if slot.timing == timing => return,
            Some(slot) => (slot.settled_by(now).max(now), slot.held),
            None => (last.unwrap_or(now), None),
        };
        self.entries.insert(entry.to_owned(), Slot::new(timing, settled, held));
    }

    /// Skips the firings of `entry` up to `until`, as if they had happened.
    pub fn hold(&mut self, entry: &str, until: DateTime<Utc>) {
        if let Some(slot) = self.entries.get_mut(entry)
            && until > slot.settled.max(slot.held.unwrap_or(slot.settled))
        {
            *slot = Slot::new(slot.timing.clone(), slot.settled, Some(until));
        }
    }

    /// Adjusts to a clock that was set back by `by` to `now`: holds end earlier by the same time. Returns the number of
    /// entries that would have waited for longer than their step; they fire by the new time.
    pub fn set_back(&mut self, now: DateTime<Utc>, by: TimeDelta) -> usize {
        let mut count = 0;
        for slot in self.entries.values_mut() {
            let settled = slot.settled_by(now);
            count += usize::from(settled != slot.settled);
            let held = slot.held.and_then(|held| held.checked_sub_signed(by));
            *slot = Slot::new(slot.timing.clone(), settled, held);
        }
        count
    }

    /// Forgets an entry.
    pub fn remove(&mut self, entry: &str) {
        self.entries.remove(entry);
    }

    /// Returns the names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the entries that are due at `now`, the longest waiting first, and settles them. Several missed firings
    /// of an entry become one.
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

    /// Returns the instant at which the next entry becomes due, `now` if one is already due, [`None`] if none will be.
    ///
    /// The clock may be set during the wait: the caller waits a minute at most, then calls this again.
    #[must_use]
    pub fn next_wake(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.entries.values().filter_map(|slot| slot.next_due(now)).min().map(|at| at.max(now))
    }

    /// Returns the instant at which `entry` becomes due next, jitter included; in the past if it is already due.
    #[must_use]
    pub fn next_firing(&self, entry: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.entries.get(entry)?.next_due(now)
    }
}

impl Slot {
    fn new(timing: Timing, settled: DateTime<Utc>, held: Option<DateTime<Utc>>) -> Self {
        let after = |instant| timing.schedule.next_after(instant, timing.timezone);
        let first = after(settled);
        let waits = [Some(settled), first, first.and_then(after)];
        let step = waits.windows(2).filter_map(|pair| Some(pair[1]? - pair[0]?)).max().unwrap_or_default();
        let next = match held {
            Some(held) if held > settled => after(held),
            _ => first,
        };
        Self { timing, settled, held, next, step }
    }

    fn jitter(&self) -> TimeDelta {
        TimeDelta::from_std(self.timing.jitter).unwrap_or_default()
    }

    /// Returns the settled instant by this clock: `now` if the clock was set back by more than a step since.
    fn settled_by(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.settled - now > self.step { now } else { self.settled }
    }

    /// Returns the same slot, settled by this clock. [`Timetable::set_back`] settles all slots as soon as a setback is
    /// reported; this is for a setback that nobody reported.
    fn settle_by(&self, now: DateTime<Utc>) -> Self {
        match self.settled_by(now) {
            settled if settled == self.settled => self.clone(),
            settled => Self::new(self.timing.clone(), settled, self.held),
        }
    }

    fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = if self.settled > now { self.settle_by(now).next } else { self.next };
        next?.checked_add_signed(self.jitter())
    }

    /// Settles the slot if it is due. Returns its scheduled instant, and true if a firing was missed.
    fn fire(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        if self.settled > now {
            *self = self.settle_by(now);
        }
        let until = now.checked_sub_signed(self.jitter())?;
        let first = self.next.filter(|next| *next <= until)?;
        let after = self.settled.max(self.held.unwrap_or(self.settled));
        let last = self.timing.schedule.last_within(after, until, self.timing.timezone)?;
        let missed = first != last || until - last > PUNCTUAL;
        *self = Self::new(self.timing.clone(), last, self.held);
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
        // A hold that ends before the present one does not shorten it.
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
        // 3 and 4 o'clock: waits of an hour and of 23 hours. If the clock is set back by two hours, both have fired
        // today.
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
        assert_eq!(table.next_wake(utc("10T05:00:00")), Some(utc("10T05:00:00")), "the missed firing stays due");
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
