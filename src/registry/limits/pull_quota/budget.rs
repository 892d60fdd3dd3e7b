//! Arithmetic of a pull quota: the remaining reads, from the latest report and the reads in flight. The code is pure:
//! `now` and the order of events are arguments, and nothing is sent or awaited.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Age at which a report is requested again before a read is withheld. For short windows, a twelfth of the window.
const FRESH: Duration = Duration::from_secs(60);

/// Assumed length of a window that was not reported.
pub(crate) const WINDOW: Duration = Duration::from_secs(6 * 3600);

/// Report in the headers of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// Reads per window.
    pub(crate) limit: u64,
    /// Length of the window. No registry documents whether the window slides.
    pub(crate) window: Duration,
    /// Reads left in the current window.
    pub(crate) remaining: u64,
}

/// Outcome of a request, for the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer reported the remaining reads.
    Reported(Report),
    /// The answer reported no quota.
    Silent,
    /// The request was refused before it was counted, or was not sent.
    Uncounted,
    /// It is unknown if the registry counted the request.
    Lost,
    /// The request was refused because no reads are left.
    Refused,
}

/// Decision about a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed, and counted as in flight.
    Taken,
    /// Undecided: it may be allowed when the reads in flight have ended.
    Later,
    /// Not allowed in this window.
    Spent,
    /// Not allowed in any window: more reads than a window has.
    Never,
}

/// Known state of a quota.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    /// Reads reserved for others.
    keep: u64,
    known: QuotaKnowledge,
    /// Reads that are reserved and not sent yet.
    reserved: u64,
    /// Reads in flight.
    flying: u64,
    /// Time of the last refusal of a registry that reports no quota, until an answer shows that reads succeed again.
    refused: Option<DateTime<Utc>>,
    /// Time of the last attempt to determine the remaining reads.
    tried: Option<DateTime<Utc>>,
    /// Number of requests sent so far.
    sent: u64,
    /// Number of requests that had been sent when the latest answer was recorded. Answers to earlier requests are less
    /// current.
    heard: u64,
    wanted: Option<Wanted>,
    /// Reads that may have been counted and whose answers were lost, since the last recorded answer that includes them
    /// for certain.
    lost: u64,
}

/// Group of reads that was requested and did not fit. Until the group fits, no smaller read is allowed before it. This
/// rule applies only while the group is still requested, and in one window of two: if others use the quota too, the
/// group may never fit.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    reads: u64,
    since: DateTime<Utc>,
    asked: DateTime<Utc>,
}

impl Wanted {
    fn has_precedence(&self, window: Duration, now: DateTime<Utc>) -> bool {
        // A caller that must wait tries again after a twelfth of the window.
        is_within(window, self.since, now) && is_within(window / 6, self.asked, now)
    }
}

/// Knowledge about the quota of a registry.
#[derive(Debug, Clone, Copy, Default)]
enum QuotaKnowledge {
    #[default]
    Nothing,
    NoQuota,
    Quota(ReportedQuota),
}

#[derive(Debug, Clone, Copy)]
struct ReportedQuota {
    report: Report,
    at: DateTime<Utc>,
    /// Time of the registry's own last report; `None` if everything is from the journal.
    heard: Option<DateTime<Utc>>,
}

impl ReportedQuota {
    /// After a whole window, the registry has forgotten all earlier reads.
    fn remaining(&self, now: DateTime<Utc>) -> u64 {
        let is_over = now - self.at >= TimeDelta::from_std(self.report.window).unwrap_or(TimeDelta::MAX);
        if is_over { self.report.limit } else { self.report.remaining }
    }
}

impl Budget {
    /// Sets the number of reads that are reserved for others.
    pub(crate) fn set_reserve(&mut self, reads: u64) {
        self.keep = reads;
    }

    /// Restores an earlier report, unless more is known already.
    pub(crate) fn recall(&mut self, report: Report, at: DateTime<Utc>) {
        if matches!(self.known, QuotaKnowledge::Nothing) {
            self.known = QuotaKnowledge::Quota(ReportedQuota { report, at, heard: None });
        }
    }

    /// Returns the latest report and its time, if there is a quota.
    pub(crate) fn latest_report(&self, now: DateTime<Utc>) -> Option<(Report, DateTime<Utc>)> {
        match self.known {
            QuotaKnowledge::Quota(quota) => {
                Some((Report { remaining: quota.remaining(now), ..quota.report }, quota.at))
            }
            _ => None,
        }
    }

    pub(crate) fn reserve_size(&self) -> u64 {
        self.keep
    }

    pub(crate) fn knows_nothing(&self) -> bool {
        matches!(self.known, QuotaKnowledge::Nothing)
    }

    /// Returns the reads that are allowed if none are in flight; `None` without a quota. After a refusal without a
    /// report: none for a while, and then one at a time, which shows if more succeed.
    pub(crate) fn reads_left(&self, now: DateTime<Utc>) -> Option<u64> {
        let Some((report, _)) = self.latest_report(now) else {
            return self.refused.map(|at| u64::from(!is_within(WINDOW / 12, at, now)));
        };
        let left = report.remaining.saturating_sub(self.keep);
        let wanted = self.wanted.filter(|wanted| wanted.has_precedence(report.window, now));
        Some(if wanted.is_some_and(|wanted| left < wanted.reads) { 0 } else { left })
    }

    /// Returns true if the registry should be queried before a read is taken:
    ///
    /// * nothing is known;
    /// * everything is from the journal;
    /// * no reads are left by a report that is not fresh.
    ///
    ///
    /// Returns false if another caller has just tried.
    pub(crate) fn needs_query(&self, now: DateTime<Utc>) -> bool {
        let fresh = |at: Option<DateTime<Utc>>, window: Duration| {
            at.is_some_and(|at| is_within(FRESH.min(window / 12), at, now))
        };
        match self.known {
            QuotaKnowledge::Nothing | QuotaKnowledge::NoQuota if self.refused.is_some() => {
                self.reads_left(now) > Some(0) && !fresh(self.tried, WINDOW)
            }
            QuotaKnowledge::Nothing => self.tried.is_none(),
            QuotaKnowledge::NoQuota => false,
            QuotaKnowledge::Quota(ReportedQuota { report, heard, .. }) => {
                let is_short =
                    heard.is_none() || self.allows(1, self.reads_left(now).unwrap_or_default()) == Verdict::Spent;
                is_short && !fresh(heard.max(self.tried), report.window)
            }
        }
    }

    /// Records an attempt to determine the remaining reads, whatever its result.
    pub(crate) fn record_attempt(&mut self, now: DateTime<Utc>) {
        self.tried = Some(now);
    }

    /// Takes one read. If nothing is known about the quota, the read is allowed: see [`Budget::needs_query`].
    pub(crate) fn take_read(&mut self, now: DateTime<Utc>) -> Verdict {
        let verdict = self.reads_left(now).map_or(Verdict::Taken, |left| self.allows(1, left));
        self.flying += u64::from(verdict == Verdict::Taken);
        verdict
    }

    /// Reserves a group of reads that are useless without each other.
    pub(crate) fn reserve(&mut self, reads: u64, now: DateTime<Utc>) -> Verdict {
        let Some((report, _)) = self.latest_report(now) else {
            if self.reads_left(now) == Some(0) {
                return Verdict::Spent;
            }
            self.reserved += reads;
            return Verdict::Taken;
        };
        if reads > report.limit.saturating_sub(self.keep) {
            return Verdict::Never;
        }
        let verdict = self.allows(reads, report.remaining.saturating_sub(self.keep));
        match verdict {
            Verdict::Taken => self.reserved += reads,
            // The requested group includes the read that showed its size.
            Verdict::Spent => {
                self.remember_wanted((reads + 1).min(report.limit.saturating_sub(self.keep)), report.window, now)
            }
            _ => {}
        }
        verdict
    }

    fn remember_wanted(&mut self, reads: u64, window: Duration, now: DateTime<Utc>) {
        let before = self.wanted.filter(|wanted| is_within(2 * window, wanted.since, now));
        self.wanted = Some(Wanted { reads, since: before.map_or(now, |wanted| wanted.since), asked: now });
    }

    /// Takes a reserved read that is about to be sent.
    pub(crate) fn take_reserved(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
        self.flying += 1;
    }

    /// Reserves a read again that was reserved before and not counted.
    pub(crate) fn reserve_again(&mut self) {
        self.reserved += 1;
    }

    /// Releases reserved reads that are not needed.
    pub(crate) fn release(&mut self, reads: u64) {
        self.reserved = self.reserved.saturating_sub(reads);
    }

    /// Records that a request is sent whose answer may report the quota. Returns its number.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Records the outcome of the request of this number. `counted` is true if it was taken as a read.
    pub(crate) fn record_outcome(&mut self, number: u64, counted: bool, heard: Outcome, now: DateTime<Utc>) {
        self.flying = self.flying.saturating_sub(u64::from(counted));
        // A request that was sent before the refusal may have been processed before it.
        let is_news = number > self.heard;
        if matches!(heard, Outcome::Reported(_)) || (heard == Outcome::Silent && is_news) {
            self.refused = None;
        }
        match heard {
            Outcome::Reported(report) => self.apply_report(number, report, now),
            Outcome::Silent if counted || self.knows_nothing() => self.known = QuotaKnowledge::NoQuota,
            Outcome::Silent => {
                if let QuotaKnowledge::Quota(quota) = &mut self.known {
                    quota.heard = Some(now);
                }
            }
            Outcome::Uncounted => {}
            Outcome::Lost => {
                self.lost += u64::from(counted);
                self.lower(|remaining| remaining.saturating_sub(u64::from(counted)), now);
            }
            Outcome::Refused => self.record_refusal(now),
        }
        let left = self.latest_report(now).map(|(report, _)| report.remaining.saturating_sub(self.keep));
        self.wanted = self.wanted.filter(|wanted| left.is_none_or(|left| left < wanted.reads.max(1)));
    }

    /// Applies a report. The report describes the time at which the registry processed the report's request. The report
    /// may raise the remaining reads only if that request was sent after all known answers arrived. Otherwise the known
    /// state may include a later read that this report does not include.
    fn apply_report(&mut self, number: u64, report: Report, now: DateTime<Utc>) {
        let remaining = match &self.known {
            QuotaKnowledge::Quota(quota) if number <= self.heard => {
                report.remaining.saturating_sub(self.lost).min(quota.remaining(now))
            }
            _ => {
                self.lost = 0;
                report.remaining
            }
        };
        self.known =
            QuotaKnowledge::Quota(ReportedQuota { report: Report { remaining, ..report }, at: now, heard: Some(now) });
        self.heard = self.sent;
    }

    fn record_refusal(&mut self, now: DateTime<Utc>) {
        match self.known {
            QuotaKnowledge::Quota(_) => self.lower(|_| 0, now),
            _ => (self.refused, self.heard) = (Some(now), self.sent),
        }
    }

    fn lower(&mut self, change: impl FnOnce(u64) -> u64, now: DateTime<Utc>) {
        if let QuotaKnowledge::Quota(quota) = &mut self.known {
            quota.report.remaining = change(quota.remaining(now));
            (quota.at, quota.heard) = (now, Some(now));
            self.heard = self.sent;
        }
    }

    /// Decides whether this many reads fit into `left`. The latest report may or may not include the reads in flight.
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

/// Returns true if `then` is at most `span` ago. A time in the future is not: the clock was set back.
fn is_within(span: Duration, then: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    (TimeDelta::zero()..span).contains(&(now - then))
}
