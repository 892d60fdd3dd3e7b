//! The timetable: which entry is due when. It starts nothing and waits for nothing; the daemon asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::Schedule;

/// A firing later than this after its instant counts as missed.
const PUNCTUAL: TimeDelta = TimeDelta::minutes(1);

/// A clock that goes back by less than this fires nothing a second time. By more, the time before was the wrong one, and
/// waiting for it to come again would silence every entry.
const BELIEVED_SETBACK: TimeDelta = TimeDelta::days(31);

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
#[derive(Debug, Clone, Default)]
pub struct Timetable {
    entries: BTreeMap<String, Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    timing: Timing,
    /// Everything up to this instant has fired or is none of ours.
    settled: DateTime<Utc>,
    /// The first scheduled instant after `settled`, kept because it is asked for far more often than it changes.
    next: Option<DateTime<Utc>>,
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
        let settled = match self.entries.get(entry) {
            Some(slot) if slot.timing == timing => return,
            Some(slot) => slot.settled_by(now).max(now),
            None => last.unwrap_or(now),
        };
        self.entries.insert(entry.to_owned(), Slot::new(timing, settled));
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
    fn new(timing: Timing, settled: DateTime<Utc>) -> Self {
        let next = timing.schedule.next_after(settled, timing.timezone);
        Self { timing, settled, next }
    }

    fn jitter(&self) -> TimeDelta {
        TimeDelta::from_std(self.timing.jitter).unwrap_or_default()
    }

    fn settled_by(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.settled - now > BELIEVED_SETBACK { now } else { self.settled }
    }

    fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = match self.settled_by(now) {
            settled if settled == self.settled => self.next,
            settled => self.timing.schedule.next_after(settled, self.timing.timezone),
        };
        next?.checked_add_signed(self.jitter())
    }

    /// The scheduled instant for which the entry is due, and whether one was missed. It is settled thereby.
    fn fire(&mut self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, bool)> {
        if self.settled_by(now) != self.settled {
            *self = Self::new(self.timing.clone(), now);
        }
        let Schedule::Cron(cron) = &self.timing.schedule else { return None };
        let until = now.checked_sub_signed(self.jitter())?;
        let first = self.next.filter(|next| *next <= until)?;
        let last = cron.last_within(self.settled, until, self.timing.timezone)?;
        let missed = first != last || until - last > PUNCTUAL;
        *self = Self::new(self.timing.clone(), last);
        Some((last, missed))
    }
}
