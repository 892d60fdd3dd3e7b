//! Upcoming runs of entries, from their schedules, the clock, and the pauses and failures in the journal.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::config::Entry;
use crate::journal::{FailureStreak, Journal, JournalError, PauseRecord};
use crate::json_form;
use crate::schedule::{backoff, jitter_of};

/// Upcoming scheduled run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct UpcomingRun {
    /// Start of the run: the scheduled instant plus the entry's delay within `jitter`.
    #[serde(serialize_with = "json_form::instant")]
    pub(crate) at: DateTime<Utc>,
    pub(crate) entry: String,
    /// Scheduled instant, without jitter.
    #[serde(serialize_with = "json_form::instant")]
    scheduled_at: DateTime<Utc>,
    pub(crate) schedule: String,
    pub(crate) timezone: String,
}

/// Pauses and failure streaks that prevent scheduled runs, from the journal.
#[derive(Debug, Default)]
pub(crate) struct RunObstacles {
    pub(crate) pauses: Vec<PauseRecord>,
    pub(crate) failures: Vec<FailureStreak>,
}

impl RunObstacles {
    /// Reads the journal. A missing journal prevents no run.
    pub(crate) async fn read(journal: &Path) -> Result<Self, JournalError> {
        match Journal::open_existing(journal) {
            Ok(journal) => Ok(Self { pauses: journal.pauses().await?, failures: journal.failure_streaks().await? }),
            Err(JournalError::Missing { .. }) => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Returns the entry's pause that has not ended.
    pub(crate) fn pause(&self, entry: &Entry, now: DateTime<Utc>) -> Option<&PauseRecord> {
        self.pauses.iter().find(|pause| pause.entry == entry.name.as_str() && pause.ended_at(now).is_none())
    }

    /// Returns the entry's failures since its last success.
    pub(crate) fn streak(&self, entry: &Entry) -> Option<&FailureStreak> {
        self.failures.iter().find(|streak| streak.entry == entry.name.as_str())
    }
}

/// Returns the end of an entry's back-off after failures, if the daemon skips at least one scheduled run because of the
/// back-off.
pub(crate) fn backed_off_until(entry: &Entry, streak: &FailureStreak, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let until = backoff_end(streak, now).filter(|until| *until > now)?;
    let planned = scheduled_runs(entry, now).next()?;
    (planned.scheduled_at <= until).then_some(until)
}

/// Returns the end of the back-off during which the daemon skips the scheduled runs of an entry after failures, or
/// `None` if there is no back-off. A failure in the future was recorded before the clock was set back.
fn backoff_end(streak: &FailureStreak, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let wait = TimeDelta::from_std(backoff(streak.failures)).ok()?;
    (wait > TimeDelta::zero() && !streak.made_progress).then(|| streak.last.min(now) + wait)
}

/// Returns the first `count` scheduled runs after `now`, ordered by instant, then by entry name. Runs during an
/// entry's pause or back-off are skipped.
pub(crate) fn upcoming_runs<'a>(
    entries: &[&Entry],
    now: DateTime<Utc>,
    count: usize,
    obstacles: impl Fn(&Entry) -> (Option<&'a PauseRecord>, Option<&'a FailureStreak>),
) -> Vec<UpcomingRun> {
    let of_entry = |entry: &&Entry| {
        let (pause, streak) = obstacles(entry);
        let paused_until = pause.and_then(|pause| pause.until);
        let is_endless = pause.is_some() && paused_until.is_none();
        let until = paused_until.max(streak.and_then(|streak| backoff_end(streak, now)));
        let fires = scheduled_runs(entry, now).take_while(move |_| !is_endless);
        fires.filter(move |run| until.is_none_or(|until| run.scheduled_at > until)).take(count).collect::<Vec<_>>()
    };
    let mut all: Vec<UpcomingRun> = entries.iter().flat_map(of_entry).collect();
    all.sort();
    all.truncate(count);
    all
}

/// Returns the first start of an entry after `now`, and after its pause and its back-off.
pub(crate) fn first_upcoming(
    entry: &Entry,
    pause: Option<&PauseRecord>,
    streak: Option<&FailureStreak>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    upcoming_runs(&[entry], now, 1, |_| (pause, streak)).first().map(|run| run.at)
}

/// Returns the scheduled runs of one entry after `now`.
fn scheduled_runs(entry: &Entry, now: DateTime<Utc>) -> impl Iterator<Item = UpcomingRun> {
    let jitter = TimeDelta::from_std(jitter_of(entry.name.as_str(), entry.jitter)).unwrap_or_default();
    let after = move |instant: &DateTime<Utc>| entry.schedule.next_after(*instant, entry.timezone);
    // A run may still be upcoming after its scheduled instant, because the jitter delays it.
    std::iter::successors(after(&(now - jitter)), after).map(move |scheduled_at| UpcomingRun {
        at: scheduled_at + jitter,
        entry: entry.name.to_string(),
        scheduled_at,
        schedule: entry.schedule.to_string(),
        timezone: entry.timezone.to_string(),
    })
}
