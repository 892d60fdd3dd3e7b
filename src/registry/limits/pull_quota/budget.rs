//! Arithmetic of a pull quota: computes the remaining reads from the latest report and the reads in flight. Pure: `now`
//! is an argument.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Maximum age of a report that permits the client to refuse a read. If the report is older, the client queries the
/// registry before the client refuses a read. If the window is short, the maximum age is a twelfth of the window.
const MAX_REPORT_AGE: Duration = Duration::from_secs(60);

/// Length of the window that the client assumes if the registry reports no length.
pub(crate) const WINDOW: Duration = Duration::from_secs(6 * 3600);

/// Report of a quota in the headers of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// Maximum number of reads per window.
    pub(crate) limit: u64,
    /// Length of the window.
    pub(crate) window: Duration,
    /// Number of remaining reads in the current window.
    pub(crate) remaining: u64,
}

/// Outcome of a request, for the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The response reported the remaining reads.
    Reported(Report),
    /// The response reported no quota.
    Silent,
    /// The registry refused and did not count the request, or the client did not send the request.
    Uncounted,
    /// The registry may have counted the request.
    Lost,
    /// The registry refused the request because no reads remain.
    Refused,
}

/// Decision about a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed, and counted as in flight.
    Taken,
    /// Undecided. The caller must ask again after a read in flight has ended.
    Later,
    /// Not allowed in this window.
    Spent,
    /// Not allowed in any window: the caller requested more reads at once than a whole window allows.
    Never,
}

/// Known state of a quota.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget {
    /// Number of reads that this program leaves to other users of the quota.
    withheld: u64,
    known: QuotaKnowledge,
    /// Number of reads that are reserved for manifests, and that the client has not sent yet.
    reserved: u64,
    /// Number of reads in flight.
    in_flight: u64,
    /// Time of the last refusal by a registry that reports no quota. After a later success, the value is `None`.
    refused: Option<DateTime<Utc>>,
    /// Time of the last attempt to determine the remaining reads.
    tried: Option<DateTime<Utc>>,
    /// Number of requests sent so far.
    sent: u64,
    /// Value of `sent` at the last update of `known`. The response to a request up to this number can be older than
    /// `known`.
    sent_at_update: u64,
    /// Group of reads that has precedence.
    wanted: Option<Wanted>,
    /// Number of reads without a response, which the registry may have counted. After a report that certainly includes
    /// these reads, the number is 0.
    lost: u64,
}

/// Group of reads that a caller requested at once, such as the manifests of one index, while too few reads remained.
/// The group has precedence: until enough reads remain for the group, the client allows no smaller group. If no caller
/// requests the group any more, the precedence ends. The precedence applies only in every second window. Otherwise a
/// group that never gets enough reads would block all smaller groups.
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
    /// Time of this process's last update from the registry. `None` if the report is from the journal.
    updated: Option<DateTime<Utc>>,
}

impl ReportedQuota {
    /// Returns the number of remaining reads. If the report is older than a window, all reads of a window remain.
    fn remaining(&self, now: DateTime<Utc>) -> u64 {
        let is_over = now - self.at >= TimeDelta::from_std(self.report.window).unwrap_or(TimeDelta::MAX);
        if is_over { self.report.limit } else { self.report.remaining }
    }
}

impl Budget {
    /// Sets the number of reads that this program leaves to other users of the quota.
    pub(crate) fn set_reserve(&mut self, reads: u64) {
        self.withheld = reads;
    }

    /// If the state of the quota is unknown, restores an earlier report.
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

    /// Returns the number of reads that the quota allows, without regard to reads in flight. `None` if the client knows
    /// no quota. After a refusal without a report, no read is allowed for half an hour, and then one read at a time.
    pub(crate) fn reads_left(&self, now: DateTime<Utc>) -> Option<u64> {
        let Some((report, _)) = self.latest_report(now) else {
            return self.refused.map(|at| u64::from(!is_within(WINDOW / 12, at, now)));
        };
        let left = report.remaining.saturating_sub(self.withheld);
        let wanted = self.wanted.filter(|wanted| wanted.has_precedence(report.window, now));
        Some(if wanted.is_some_and(|wanted| left < wanted.reads) { 0 } else { left })
    }

    /// Returns true if the caller should query the registry before a read. These are the cases:
    ///
    /// * The state of the quota is unknown.
    /// * The state comes only from the journal.
    /// * The latest report allows no read, and is older than 60 seconds ([`MAX_REPORT_AGE`]).
    ///
    /// If a caller has queried the registry within the last 60 seconds, returns false.
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

    /// Records an attempt to query the remaining reads. The attempt may have failed.
    pub(crate) fn record_attempt(&mut self, now: DateTime<Utc>) {
        self.tried = Some(now);
    }

    /// Takes one read. If the state of the quota is unknown, the read is allowed.
    pub(crate) fn take_read(&mut self, now: DateTime<Utc>) -> Verdict {
        let verdict = self.reads_left(now).map_or(Verdict::Taken, |left| self.allows(1, left));
        self.in_flight += u64::from(verdict == Verdict::Taken);
        verdict
    }

    /// Reserves a group of reads: all or none.
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
            // The extra read is the read of the manifest that lists the group.
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

    /// Counts a reserved read as in flight.
    pub(crate) fn take_reserved(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
        self.in_flight += 1;
    }

    /// Reserves a read again, after an attempt that the registry did not count.
    pub(crate) fn reserve_again(&mut self) {
        self.reserved += 1;
    }

    pub(crate) fn release(&mut self, reads: u64) {
        self.reserved = self.reserved.saturating_sub(reads);
    }

    /// Records that the client sends a request, and returns the number of the request.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Records the outcome of the request of this number. `counted` is true if the request counts as a read in flight.
    pub(crate) fn record_outcome(&mut self, number: u64, counted: bool, outcome: Outcome, now: DateTime<Utc>) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(counted));
        // If the client sent this request before the refusal arrived, its success proves nothing: the registry possibly
        // processed this request before the refused request.
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

    /// Applies a report. If the client sent the request before the last update of `known`, the report cannot raise the
    /// number of remaining reads: the registry possibly wrote the report before a read that `known` already includes.
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

    /// Decides whether `left` remaining reads are enough for `reads` more reads. `left` possibly still includes the
    /// reads in flight.
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

/// Returns true if the time from `then` to `now` is shorter than `span`. If `then` is in the future because the clock
/// was set back, returns false.
fn is_within(span: Duration, then: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    (TimeDelta::zero()..span).contains(&(now - then))
}
