//! The arithmetic of a quota: what is left by what was told last and what is under way. Pure: `now` and the order of things are
//! arguments, and nothing is asked or waited for here.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// What was told this long ago may be asked for again before a read is held back. For short windows, a twelfth of them.
const FRESH: Duration = Duration::from_secs(60);

/// What the headers of one answer say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// Reads in a window.
    pub(crate) limit: u64,
    /// How long a window is. Whether it slides, nobody says.
    pub(crate) window: Duration,
    /// What is left in this one.
    pub(crate) remaining: u64,
}

/// What became of a request, as far as the quota is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The answer told what is left.
    Told(Told),
    /// It was answered, and there is no word of a quota.
    Silent,
    /// It was refused before it was counted, or was not sent.
    Uncounted,
    /// Nobody knows whether it was counted.
    Lost,
    /// It was refused because nothing is left.
    Refused,
}

/// Whether reads may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They may, and are counted as under way.
    Taken,
    /// When what is under way has ended, it may turn out that they may.
    Later,
    /// Not in this window.
    Spent,
    /// Not in any window: more than one has.
    Never,
}

/// What is left of a quota, as far as that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    /// What is left to others.
    keep: u64,
    known: Known,
    /// Set aside for reads that are not sent yet.
    reserved: u64,
    /// Reads whose end is not known.
    flying: u64,
    /// When somebody last tried to find out.
    tried: Option<DateTime<Utc>>,
    /// How many requests were sent so far.
    sent: u64,
    /// How many had been sent when an answer was last taken in: what was sent before is older news.
    heard: u64,
    /// How many reads were asked for together that there were not: until there are, nothing smaller goes before them.
    wanted: u64,
}

#[derive(Debug, Clone, Copy, Default)]
enum Known {
    #[default]
    Nothing,
    NoQuota,
    Quota(Quota),
}

#[derive(Debug, Clone, Copy)]
struct Quota {
    told: Told,
    at: DateTime<Utc>,
    /// When the registry itself was last heard of; `None` where all is from the journal.
    heard: Option<DateTime<Utc>>,
}

impl Quota {
    /// After a whole window, whatever was counted before it is forgotten.
    fn remaining(&self, now: DateTime<Utc>) -> u64 {
        let is_over = now - self.at >= TimeDelta::from_std(self.told.window).unwrap_or(TimeDelta::MAX);
        if is_over { self.told.limit } else { self.told.remaining }
    }
}

impl Budget {
    /// Leaves so much to others from now on.
    pub(crate) fn keep(&mut self, reads: u64) {
        self.keep = reads;
    }

    /// Takes in what was known before, unless more is known by now.
    pub(crate) fn recall(&mut self, told: Told, at: DateTime<Utc>) {
        if matches!(self.known, Known::Nothing) {
            self.known = Known::Quota(Quota { told, at, heard: None });
        }
    }

    /// What was told last and when, where there is a quota.
    pub(crate) fn told(&self, now: DateTime<Utc>) -> Option<(Told, DateTime<Utc>)> {
        match self.known {
            Known::Quota(quota) => Some((Told { remaining: quota.remaining(now), ..quota.told }, quota.at)),
            _ => None,
        }
    }

    pub(crate) fn kept(&self) -> u64 {
        self.keep
    }

    pub(crate) fn knows_nothing(&self) -> bool {
        matches!(self.known, Known::Nothing)
    }

    /// What may be read, where there is a quota, if nothing is under way.
    pub(crate) fn left(&self, now: DateTime<Utc>) -> Option<u64> {
        let (told, _) = self.told(now)?;
        let left = told.remaining.saturating_sub(self.keep);
        Some(if left < self.wanted { 0 } else { left })
    }

    /// Whether the registry should be asked before a read is taken: where nothing is known, where all is from the journal, and where
    /// nothing is left by what is not fresh. Not again where somebody has just tried.
    pub(crate) fn needs_look(&self, now: DateTime<Utc>) -> bool {
        let fresh = |at: Option<DateTime<Utc>>, window: Duration| {
            let fresh = TimeDelta::from_std(FRESH.min(window / 12)).unwrap_or_default();
            at.is_some_and(|at| now - at < fresh)
        };
        match self.known {
            Known::Nothing => self.tried.is_none(),
            Known::NoQuota => false,
            Known::Quota(Quota { told, heard, .. }) => {
                let is_short = heard.is_none() || self.allows(1, self.left(now).unwrap_or_default()) == Verdict::Spent;
                is_short && !fresh(heard.max(self.tried), told.window)
            }
        }
    }

    /// Somebody has tried to find out what is left, whatever came of it.
    pub(crate) fn tried(&mut self, now: DateTime<Utc>) {
        self.tried = Some(now);
    }

    /// Takes one read. Where nothing is known it is taken: see [`Budget::needs_look`].
    pub(crate) fn take(&mut self, now: DateTime<Utc>) -> Verdict {
        let verdict = self.left(now).map_or(Verdict::Taken, |left| self.allows(1, left));
        self.flying += u64::from(verdict == Verdict::Taken);
        verdict
    }

    /// Sets reads aside that are worth nothing without each other.
    pub(crate) fn reserve(&mut self, reads: u64, now: DateTime<Utc>) -> Verdict {
        let Some((told, _)) = self.told(now) else {
            self.reserved += reads;
            return Verdict::Taken;
        };
        if reads > told.limit.saturating_sub(self.keep) {
            return Verdict::Never;
        }
        let verdict = self.allows(reads, told.remaining.saturating_sub(self.keep));
        match verdict {
            Verdict::Taken => self.reserved += reads,
            // With the read that showed how many they are.
            Verdict::Spent => self.wanted = (reads + 1).min(told.limit.saturating_sub(self.keep)),
            _ => {}
        }
        verdict
    }

    /// A read that was set aside is about to be sent.
    pub(crate) fn take_reserved(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
        self.flying += 1;
    }

    /// Reads that were set aside are not needed.
    pub(crate) fn give_back(&mut self, reads: u64) {
        self.reserved = self.reserved.saturating_sub(reads);
    }

    /// A request goes out that may tell something. Returns its number.
    pub(crate) fn sends(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Takes in the end of the request of this number; `counted` is whether it was taken as a read.
    pub(crate) fn ended(&mut self, number: u64, counted: bool, heard: Heard, now: DateTime<Utc>) {
        self.flying = self.flying.saturating_sub(u64::from(counted));
        match heard {
            Heard::Told(told) => self.hear(number, told, now),
            Heard::Silent if counted || self.knows_nothing() => self.known = Known::NoQuota,
            Heard::Silent => {
                if let Known::Quota(quota) = &mut self.known {
                    quota.heard = Some(now);
                }
            }
            Heard::Uncounted => {}
            Heard::Lost => self.lower(|remaining| remaining.saturating_sub(u64::from(counted)), now),
            Heard::Refused => self.lower(|_| 0, now),
        }
        if self.left(now).is_some_and(|left| left >= self.wanted && left > 0) {
            self.wanted = 0;
        }
    }

    /// What an answer tells holds for the time when its request was dealt with. It may raise what is left if the request was
    /// sent after everything that is known came; else a later one may be counted in what is known, and not in this.
    fn hear(&mut self, number: u64, told: Told, now: DateTime<Utc>) {
        let remaining = match &self.known {
            Known::Quota(quota) if number <= self.heard => told.remaining.min(quota.remaining(now)),
            _ => told.remaining,
        };
        self.known = Known::Quota(Quota { told: Told { remaining, ..told }, at: now, heard: Some(now) });
        self.heard = self.sent;
    }

    fn lower(&mut self, change: impl FnOnce(u64) -> u64, now: DateTime<Utc>) {
        if let Known::Quota(quota) = &mut self.known {
            quota.told.remaining = change(quota.remaining(now));
            (quota.at, quota.heard) = (now, Some(now));
            self.heard = self.sent;
        }
    }

    /// Whether so many reads are within `left`. What is under way may be in what was told already, or not.
    fn allows(&self, reads: u64, left: u64) -> Verdict {
        if left >= reads + self.reserved + self.flying {
            Verdict::Taken
        } else if left >= reads + self.reserved && self.flying > 0 {
            Verdict::Later
        } else {
            Verdict::Spent
        }
    }
}
