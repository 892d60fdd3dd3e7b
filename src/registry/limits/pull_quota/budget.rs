//! Arithmetic of a pull quota: the remaining reads, from the latest report and the reads in flight. The code is pure:
//! `now` and the order of events are arguments, and nothing is sent or awaited.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Maximum age of a report for the refusal of a read. If the report is older, the registry is queried first. For short
/// windows, the maximum is a twelfth of the window.
const MAX_REPORT_AGE: Duration = Duration::from_secs(60);

/// Assumed length of a window that was not reported.
pub(crate) const WINDOW: Duration = Duration::from_secs(6 * 3600);

/// Report in the headers of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// Maximum number of reads per window.
    pub(crate) limit: u64,
    /// Length of the window. No registry documents whether the window slides.
    pub(crate) window: Duration,
    /// Number of remaining reads in the current window.
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
    /// The request was refused because no reads remain.
    Refused,
}

/// Decision about a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed, and counted as in flight.
    Taken,
    /// Undecided: the read may be allowed after the reads in flight have ended.
    Later,
    /// Not allowed in this window.
    Spent,
    /// Not allowed in any window: the group has more reads than a window.
    Never,
}

/// Known state of a quota.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    /// Number of reads that are reserved for other users of the quota.
    withheld: u64,
    known: QuotaKnowledge,
    /// Number of reads that are reserved for manifests and not sent yet.
    reserved: u64,
    /// Number of reads in flight.
    in_flight: u64,
    /// Time of the last refusal by a registry that reports no quota. `None` after a response showed that reads succeed
    /// again.
    refused: Option<DateTime<Utc>>,
    /// Time of the last attempt to determine the remaining reads.
    tried: Option<DateTime<Utc>>,
    /// Number of requests sent so far.
    sent: u64,
    /// Number of requests that had been sent when the known state was last updated. The responses to these requests may
    /// be older than the known state.
    sent_at_update: u64,
    /// Group of reads that has precedence.
    wanted: Option<Wanted>,
    /// Number of reads that the registry may have counted, and whose responses were lost. A report that certainly
    /// includes these reads resets the number.
    lost: u64,
}

/// Group of reads that was requested and exceeds the remaining reads. The group has precedence: no smaller group is
/// allowed before the quota has enough reads for this group. The precedence applies only while the group is still
/// requested, and only in every second window, because other users of the quota may prevent the group from ever
/// fitting.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    reads: u64,
    /// Start of the window in which the group has precedence.
    since: DateTime<Utc>,
    /// Time of the latest request for the group.
    last_requested: DateTime<Utc>,
}

impl Wanted {
    fn has_precedence(&self, window: Duration, now: DateTime<Utc>) -> bool {
        // A waiting caller requests the group again after a twelfth of the window.
        is_within(window, self.since, now) && is_within(window / 6, self.last_requested, now)
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
    /// Time at which this process last learned the state from the registry. `None` if the report is from the journal.
    updated: Option<DateTime<Utc>>,
}

impl ReportedQuota {
    /// Returns the number of remaining reads. A whole window after the report, no earlier read counts any more.
    fn remaining(&self, now: DateTime<Utc>) -> u64 {
        let is_over = now - self.at >= TimeDelta::from_std(self.report.window).unwrap_or(TimeDelta::MAX);
        if is_over { self.report.limit } else { self.report.remaining }
    }
}

impl Budget {
    /// Sets the number of reads that are reserved for other users of the quota.
    pub(crate) fn set_reserve(&mut self, reads: u64) {
        self.withheld = reads;
    }

    /// Restores an earlier report, unless the state of the quota is already known.
    pub(crate) fn recall(&mut self, report: Report, at: DateTime<Utc>) {
        if matches!(self.known, QuotaKnowledge::Nothing) {
            self.known = QuotaKnowledge::Quota(ReportedQuota { report, at, updated: None });
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
        self.withheld
    }

    pub(crate) fn knows_nothing(&self) -> bool {
        matches!(self.known, QuotaKnowledge::Nothing)
    }

    /// Returns the number of reads that are allowed if no reads are in flight, and `None` without a quota. After a
    /// refusal without a report, no read is allowed for a while. Then one read is allowed at a time, and its outcome
    /// shows if more reads succeed.
    pub(crate) fn reads_left(&self, now: DateTime<Utc>) -> Option<u64> {
        let Some((report, _)) = self.latest_report(now) else {
            return self.refused.map(|at| u64::from(!is_within(WINDOW / 12, at, now)));
        };
        let left = report.remaining.saturating_sub(self.withheld);
        let wanted = self.wanted.filter(|wanted| wanted.has_precedence(report.window, now));
        Some(if wanted.is_some_and(|wanted| left < wanted.reads) { 0 } else { left })
    }

    /// Returns true if the registry should be queried before a read is taken. This is the case if one of these
    /// conditions is met:
    ///
    /// * The state of the quota is unknown.
    /// * The state is known only from the journal.
    /// * The latest report allows no read, and is older than [`MAX_REPORT_AGE`].
    ///
    /// Returns false if another caller has just queried the registry.
    pub(crate) fn needs_query(&self, now: DateTime<Utc>) -> bool {
        let is_fresh = |at: Option<DateTime<Utc>>, window: Duration| {
            at.is_some_and(|at| is_within(MAX_REPORT_AGE.min(window / 12), at, now))
        };
        match self.known {
            QuotaKnowledge::Nothing | QuotaKnowledge::NoQuota if self.refused.is_some() => {
                self.reads_left(now) > Some(0) && !is_fresh(self.tried, WINDOW)
            }
            QuotaKnowledge::Nothing => self.tried.is_none(),
            QuotaKnowledge::NoQuota => false,
            QuotaKnowledge::Quota(ReportedQuota { report, updated, .. }) => {
                let is_short =
                    updated.is_none() || self.allows(1, self.reads_left(now).unwrap_or_default()) == Verdict::Spent;
                is_short && !is_fresh(updated.max(self.tried), report.window)
            }
        }
    }

    /// Records an attempt to determine the remaining reads, with or without success.
    pub(crate) fn record_attempt(&mut self, now: DateTime<Utc>) {
        self.tried = Some(now);
    }

    /// Takes one read. If the state of the quota is unknown, the read is allowed: see [`Budget::needs_query`].
    pub(crate) fn take_read(&mut self, now: DateTime<Utc>) -> Verdict {
        let verdict = self.reads_left(now).map_or(Verdict::Taken, |left| self.allows(1, left));
        self.in_flight += u64::from(verdict == Verdict::Taken);
        verdict
    }

    /// Reserves a group of reads: all or none, because a part of the group is useless.
    pub(crate) fn reserve(&mut self, reads: u64, now: DateTime<Utc>) -> Verdict {
        let Some((report, _)) = self.latest_report(now) else {
            if self.reads_left(now) == Some(0) {
                return Verdict::Spent;
            }
            self.reserved += reads;
            return Verdict::Taken;
        };
        if reads > report.limit.saturating_sub(self.withheld) {
            return Verdict::Never;
        }
        let verdict = self.allows(reads, report.remaining.saturating_sub(self.withheld));
        match verdict {
            Verdict::Taken => self.reserved += reads,
            // The group also includes the read that showed the size of the group.
            Verdict::Spent => {
                self.remember_wanted((reads + 1).min(report.limit.saturating_sub(self.withheld)), report.window, now)
            }
            _ => {}
        }
        verdict
    }

    fn remember_wanted(&mut self, reads: u64, window: Duration, now: DateTime<Utc>) {
        let before = self.wanted.filter(|wanted| is_within(2 * window, wanted.since, now));
        self.wanted = Some(Wanted { reads, since: before.map_or(now, |wanted| wanted.since), last_requested: now });
    }

    /// Counts a reserved read as in flight. The caller is about to send it.
    pub(crate) fn take_reserved(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
        self.in_flight += 1;
    }

    /// Reserves a read again that was reserved before and not counted.
    pub(crate) fn reserve_again(&mut self) {
        self.reserved += 1;
    }

    /// Releases reserved reads that are not needed.
    pub(crate) fn release(&mut self, reads: u64) {
        self.reserved = self.reserved.saturating_sub(reads);
    }

    /// Records that a request is sent. Its response may report the quota. Returns the number of the request.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Records the outcome of the request of this number. `counted` is true if the request was taken as a read.
    pub(crate) fn record_outcome(&mut self, number: u64, counted: bool, outcome: Outcome, now: DateTime<Utc>) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(counted));
        // A request that was sent before the refusal was recorded may have been processed before the refused request.
        let is_newer = number > self.sent_at_update;
        if matches!(outcome, Outcome::Reported(_)) || (outcome == Outcome::Silent && is_newer) {
            self.refused = None;
        }
        match outcome {
            Outcome::Reported(report) => self.apply_report(number, report, now),
            Outcome::Silent if counted || self.knows_nothing() => self.known = QuotaKnowledge::NoQuota,
            Outcome::Silent => {
                if let QuotaKnowledge::Quota(quota) = &mut self.known {
                    quota.updated = Some(now);
                }
            }
            Outcome::Uncounted => {}
            Outcome::Lost => {
                self.lost += u64::from(counted);
                self.lower(|remaining| remaining.saturating_sub(u64::from(counted)), now);
            }
            Outcome::Refused => self.record_refusal(now),
        }
        let left = self.latest_report(now).map(|(report, _)| report.remaining.saturating_sub(self.withheld));
        self.wanted = self.wanted.filter(|wanted| left.is_none_or(|left| left < wanted.reads.max(1)));
    }

    /// Applies a report. The report describes the time at which the registry processed the report's request. The report
    /// may raise the remaining reads only if that request was sent after all known responses were received. Otherwise
    /// the known state may include a later read that this report does not include.
    fn apply_report(&mut self, number: u64, report: Report, now: DateTime<Utc>) {
        let remaining = match &self.known {
            QuotaKnowledge::Quota(quota) if number <= self.sent_at_update => {
                report.remaining.saturating_sub(self.lost).min(quota.remaining(now))
            }
            _ => {
                self.lost = 0;
                report.remaining
            }
        };
        self.known = QuotaKnowledge::Quota(ReportedQuota {
            report: Report { remaining, ..report },
            at: now,
            updated: Some(now),
        });
        self.sent_at_update = self.sent;
    }

    fn record_refusal(&mut self, now: DateTime<Utc>) {
        match self.known {
            QuotaKnowledge::Quota(_) => self.lower(|_| 0, now),
            _ => (self.refused, self.sent_at_update) = (Some(now), self.sent),
        }
    }

    fn lower(&mut self, change: impl FnOnce(u64) -> u64, now: DateTime<Utc>) {
        if let QuotaKnowledge::Quota(quota) = &mut self.known {
            quota.report.remaining = change(quota.remaining(now));
            (quota.at, quota.updated) = (now, Some(now));
            self.sent_at_update = self.sent;
        }
    }

    /// Decides if `left`, the number of remaining reads, is enough for this many reads. The latest report may or may
    /// not include the reads in flight.
    fn allows(&self, reads: u64, left: u64) -> Verdict {
        if left >= reads + self.reserved + self.in_flight {
            Verdict::Taken
        } else if left >= reads + self.reserved && self.in_flight > 0 {
            Verdict::Later
        } else {
            Verdict::Spent
        }
    }
}

/// Returns true if `then` is less than `span` before `now`. Returns false for a time in the future, which means that
/// the clock was set back.
fn is_within(span: Duration, then: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    (TimeDelta::zero()..span).contains(&(now - then))
}
