//! The timetable: which entry is due when. It starts nothing and waits for nothing; the daemon asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::Schedule;

/// A firing later than this after its instant counts as missed.
const PUNCTUAL: TimeDelta = TimeDelta::minutes(1);

/// When one entry fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Its schedule.
    pub schedule: Schedule,
    /// The zone by whose wall clock the schedule is read.
    pub timezone: Tz,
    /// How long after the scheduled instant it fires: see [`super::jitter_of`].
    pub jitter: Duration,
}

/// An entry that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The entry's name.
    pub entry: String,
    /// The instant that its schedule names, without jitter; of several that passed, the last.
    pub scheduled_at: DateTime<Utc>,
    /// Whether a firing was not at its time: the program was down or held up, or the clock was set forward.
    pub missed: bool,
}

/// The entries and the instants at which each fires next.
///
/// A clock that is set back by no more than an entry's step, the time between two of its firings, fires nothing a second time. By
/// more, the time before was the wrong one: waiting for it to come again would silence the entry, so it fires by the new time.
#[derive(Debug, Clone, Default)]
pub struct Timetable {
    entries: BTreeMap<String, Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    timing: Timing,
    /// Everything up to this instant has fired or is none of ours.
    settled: DateTime<Utc>,
    /// Until when firings are left out on purpose, which may be in the future.
    held: Option<DateTime<Utc>>,
    /// The first scheduled instant after `settled` and `held`, kept because it is asked for far more often than it changes.
    next: Option<DateTime<Utc>>,
    /// The longer one of the two waits between the first three scheduled instants from `settled` on.
    step: TimeDelta,
}

impl Timetable {
    /// An empty timetable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry or replaces its timing.
    ///
    /// `last` is the scheduled instant of its last firing, as the journal has it: what was missed since then fires once.
    /// Without it the entry waits for its first instant after `now`. An entry that stands with the same timing is left
    /// alone; one whose timing changed goes on from `now`, for the new schedule missed nothing.
    pub fn set(&mut self, entry: &str, timing: Timing, last: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        let (settled, held) = match self.entries.get(entry) {
            Some(slot) if slot.timing == timing => return,
            Some(slot) => (slot.settled_by(now).max(now), slot.held),
            None => (last.unwrap_or(now), None),
        };
        self.entries.insert(entry.to_owned(), Slot::new(timing, settled, held));
    }

    /// Leaves out what `entry` would fire up to `until`, as if it had fired.
    pub fn hold(&mut self, entry: &str, until: DateTime<Utc>) {
        if let Some(slot) = self.entries.get_mut(entry)
            && until > slot.settled.max(slot.held.unwrap_or(slot.settled))
        {
            *slot = Slot::new(slot.timing.clone(), slot.settled, Some(until));
        }
    }

    /// Follows a clock that was set back `by` so much to `now`: what is held ends as much earlier. Returns how many entries would have
    /// waited for longer than their step; they fire by the new time.
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

    /// The names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The entries that are due at `now`, the one that waits longest first. Each is told once: missed firings of an
    /// entry are one firing.
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

    /// The instant at which the next entry becomes due, `now` when one is due already, [`None`] when nothing will be.
    ///
    /// Clocks are set while one waits: wait a minute at most, then ask again.
    #[must_use]
    pub fn next_wake(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.entries.values().filter_map(|slot| slot.next_due(now)).min().map(|at| at.max(now))
    }

    /// The instant at which `entry` becomes due next, jitter included; in the past while it is due.
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

    /// What is settled by this clock: `now` where the clock was set back by more than a step since.
    fn settled_by(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.settled - now > self.step { now } else { self.settled }
    }

    /// The same entry, settled by this clock. Slots are settled as soon as somebody tells of a clock that was set back; this is for
    /// those of whom nobody does.
    fn by(&self, now: DateTime<Utc>) -> Self {
        match self.settled_by(now) {
            settled if settled == self.settled => self.clone(),
            settled => Self::new(self.timing.clone(), settled, self.held),
        }
    }

    fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = if self.settled > now { self.by(now).next } else { self.next };
        next?.checked_add_signed(self.jitter())
    }

    /// The scheduled instant for which the entry is due, and whether one was missed. It is settled thereby.
    fn fire(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        if self.settled > now {
            *self = self.by(now);
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

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-05-{text}Z").parse().unwrap()
    }

    fn timing(schedule: &str) -> Timing {
        Timing { schedule: schedule.parse().unwrap(), timezone: Tz::UTC, jitter: Duration::ZERO }
    }

    fn table(schedule: &str, last: Option<&str>, now: &str) -> Timetable {
        let mut table = Timetable::new();
        table.set("a", timing(schedule), last.map(at), at(now));
        table
    }

    fn fired(table: &mut Timetable, now: &str) -> Vec<(DateTime<Utc>, bool)> {
        table.due(at(now)).into_iter().map(|firing| (firing.scheduled_at, firing.missed)).collect()
    }

    #[test]
    fn an_entry_fires_at_its_instant_once() {
        let mut table = table("0 3 * * *", None, "10T00:00:00");
        assert_eq!(table.next_wake(at("10T00:00:00")), Some(at("10T03:00:00")));
        assert_eq!(fired(&mut table, "10T02:59:59"), []);
        assert_eq!(fired(&mut table, "10T03:00:00"), [(at("10T03:00:00"), false)]);
        assert_eq!(fired(&mut table, "10T03:00:00"), []);
        assert_eq!(table.next_wake(at("10T03:00:00")), Some(at("11T03:00:00")));
    }

    #[test]
    fn what_is_held_is_left_out_and_never_made_up_for() {
        let mut table = table("*/5 * * * *", None, "10T00:00:00");
        table.hold("a", at("10T00:12:00"));
        assert_eq!(fired(&mut table, "10T00:12:00"), []);
        assert_eq!(fired(&mut table, "10T00:15:00"), [(at("10T00:15:00"), false)]);
        // What has passed is not brought back.
        table.hold("a", at("10T00:10:00"));
        assert_eq!(fired(&mut table, "10T00:19:00"), []);
        assert_eq!(table.next_wake(at("10T00:19:00")), Some(at("10T00:20:00")));
    }

    #[test]
    fn a_steady_interval_fires_and_is_made_up_for_like_any_other() {
        let mut table = table("every 6h", Some("01T06:00:00"), "01T06:00:01");
        assert_eq!(fired(&mut table, "01T12:00:00"), [(at("01T12:00:00"), false)]);
        assert_eq!(fired(&mut table, "10T13:00:00"), [(at("10T12:00:00"), true)]);
        assert_eq!(table.next_wake(at("10T13:00:00")), Some(at("10T18:00:00")));
    }

    #[test]
    fn what_was_missed_while_the_program_was_down_fires_once() {
        let mut table = table("0 3 * * *", Some("01T03:00:00"), "10T12:00:00");
        assert_eq!(table.next_wake(at("10T12:00:00")), Some(at("10T12:00:00")));
        assert_eq!(fired(&mut table, "10T12:00:00"), [(at("10T03:00:00"), true)]);
        assert_eq!(fired(&mut table, "10T12:00:01"), []);
        assert_eq!(table.next_wake(at("10T12:00:01")), Some(at("11T03:00:00")));
    }

    #[test]
    fn a_new_entry_has_missed_nothing() {
        assert_eq!(fired(&mut table("0 3 * * *", None, "10T12:00:00"), "10T12:00:00"), []);
    }

    #[test]
    fn a_clock_set_forward_by_days_fires_each_entry_once() {
        let mut table = table("* * * * *", None, "10T00:00:30");
        table.set("b", timing("0 * * * *"), None, at("10T00:00:30"));
        let firings = table.due(at("20T00:30:30"));
        let told: Vec<_> = firings.iter().map(|f| (f.entry.as_str(), f.scheduled_at, f.missed)).collect();
        assert_eq!(told, [("b", at("20T00:00:00"), true), ("a", at("20T00:30:00"), true)]);
        assert_eq!(table.due(at("20T00:30:40")), []);
    }

    #[test]
    fn clock_set_back_by_less_than_a_step_fires_nothing_twice() {
        let mut table = table("0 * * * *", None, "10T00:30:00");
        assert_eq!(fired(&mut table, "10T03:00:00").len(), 1);
        for now in ["10T02:00:00", "10T02:59:00", "10T03:00:30"] {
            assert_eq!(fired(&mut table, now), [], "{now}");
        }
        assert_eq!(fired(&mut table, "10T04:00:00"), [(at("10T04:00:00"), false)]);
    }

    #[test]
    fn clock_set_back_by_more_than_a_step_fires_by_the_new_time() {
        for (schedule, back, next) in [
            ("0 * * * *", "10T01:40:00", "10T02:00:00"),
            ("* * * * *", "10T02:58:30", "10T02:59:00"),
            ("every 1m", "10T02:50:10", "10T02:51:00"),
            ("0 * * * *", "08T00:30:00", "08T01:00:00"),
            ("*/15 2,3 * * *", "09T03:00:00", "09T03:15:00"),
        ] {
            let mut table = table(schedule, None, "10T00:30:00");
            assert_eq!(fired(&mut table, "10T03:00:00").len(), 1, "{schedule}");
            assert_eq!(fired(&mut table, back), [], "{schedule}: nothing fires because the clock is set");
            assert_eq!(table.next_firing("a", at(back)), Some(at(next)), "{schedule}");
            assert_eq!(fired(&mut table, next), [(at(next), false)], "{schedule}");
        }
    }

    #[test]
    fn clock_set_back_counts_the_longer_wait_of_an_uneven_schedule() {
        // 3 and 4 o'clock: an hour and 23 hours. Set back by two hours, both have fired today.
        let mut uneven = table("0 3,4 * * *", Some("10T03:00:00"), "10T03:30:00");
        assert_eq!(fired(&mut uneven, "10T04:00:00").len(), 1);
        assert_eq!(fired(&mut uneven, "10T02:00:00"), []);
        assert_eq!(uneven.next_firing("a", at("10T02:00:00")), Some(at("11T03:00:00")));
    }

    #[test]
    fn hold_ends_as_much_earlier_as_the_clock_is_set_back() {
        let mut table = table("* * * * *", None, "10T12:00:00");
        table.hold("a", at("10T13:00:00"));
        assert_eq!(table.next_firing("a", at("10T12:00:30")), Some(at("10T13:01:00")), "a hold is no clock set back");
        assert_eq!(table.set_back(at("10T04:00:30"), TimeDelta::hours(8)), 1);
        assert_eq!(table.next_firing("a", at("10T04:00:30")), Some(at("10T05:01:00")));
        assert_eq!(fired(&mut table, "10T05:00:59"), []);
        assert_eq!(fired(&mut table, "10T05:01:00"), [(at("10T05:01:00"), false)]);
        assert_eq!(table.set_back(at("10T05:00:10"), TimeDelta::minutes(1)), 0, "within a step");
    }

    #[test]
    fn a_clock_that_was_years_ahead_does_not_silence_an_entry() {
        let future = "2031-01-01T00:00:30Z".parse().unwrap();
        let mut table = Timetable::new();
        table.set("a", timing("0 * * * *"), Some(future), at("10T00:30:00"));
        assert_eq!(table.next_wake(at("10T00:30:00")), Some(at("10T01:00:00")));
        assert_eq!(fired(&mut table, "10T00:30:00"), []);
        assert_eq!(fired(&mut table, "10T01:00:00"), [(at("10T01:00:00"), false)]);
    }

    #[test]
    fn jitter_moves_the_firing_and_not_the_instant_that_it_stands_for() {
        let mut table = Timetable::new();
        let jittered = Timing { jitter: Duration::from_secs(90), ..timing("*/5 * * * *") };
        table.set("a", jittered, None, at("10T00:02:00"));
        assert_eq!(table.next_wake(at("10T00:02:00")), Some(at("10T00:06:30")));
        assert_eq!(fired(&mut table, "10T00:06:29"), []);
        assert_eq!(fired(&mut table, "10T00:06:30"), [(at("10T00:05:00"), false)]);
        // At 00:11 the firing of 00:10 is still to come.
        assert_eq!(fired(&mut table, "10T00:11:00"), []);
    }

    #[test]
    fn a_changed_timing_goes_on_from_now_and_the_same_one_changes_nothing() {
        let mut table = table("0 3 * * *", None, "10T00:00:00");
        table.set("a", timing("0 3 * * *"), None, at("10T05:00:00"));
        assert_eq!(table.next_wake(at("10T05:00:00")), Some(at("10T05:00:00")), "the missed firing stays due");
        table.set("a", timing("0 4 * * *"), None, at("10T05:00:00"));
        assert_eq!(table.next_firing("a", at("10T05:00:00")), Some(at("11T04:00:00")));
        table.set("a", timing("never"), None, at("10T05:00:00"));
        assert_eq!(table.next_wake(at("10T05:00:00")), None);
        assert_eq!(fired(&mut table, "30T05:00:00"), []);
        table.remove("a");
        assert_eq!(table.names().count(), 0);
    }

    #[test]
    fn a_held_up_loop_tells_of_the_firing_it_missed() {
        let mut table = table("*/10 * * * *", None, "10T00:01:00");
        assert_eq!(fired(&mut table, "10T00:14:00"), [(at("10T00:10:00"), true)]);
        assert_eq!(fired(&mut table, "10T00:20:59"), [(at("10T00:20:00"), false)]);
    }
}
