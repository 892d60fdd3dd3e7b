//! Pauses of entries. The journal records a pause before the pause is in force, and the daemon restores the pauses from
//! the journal at its start. A pause ends by a command or at its end time.

use chrono::{DateTime, Utc};

use super::loop_state::{JOURNAL_TIMEOUT, Service};
use super::paused_entries::{Pause, PausedEntries};
use super::run_queue::QueuedRun;

use crate::daemon::{Accepted, Refusal};
use crate::journal::{JournalError, PauseRecord, Trigger};
use crate::sync::format_instant;

impl Service {
    /// Restores the pauses in force from the journal. Scheduled runs that were due during an ended pause are skipped.
    pub(super) async fn restore_pauses(&mut self, now: DateTime<Utc>) -> Result<(), JournalError> {
        let Some(journal) = &self.engine.journal else { return Ok(()) };
        let records = journal.pauses().await?;
        self.pauses = PausedEntries::from_records(&records, now);
        for (record, ended) in records.iter().filter_map(|record| Some((record, record.ended_at(now)?))) {
            self.timetable.hold(&record.entry, ended);
        }
        Ok(())
    }

    /// Pauses an entry: no run of the entry starts automatically. A run under way finishes its current tags, and
    /// resumes at the end of the pause. A queued run starts at the end of the pause.
    pub(super) async fn pause(
        &mut self,
        entry: &str,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Accepted, Refusal> {
        if !self.has_entry(entry) {
            return Err(Refusal::UnknownEntry(entry.to_owned()));
        }
        let since = self.pauses.get(entry).map_or(now, |pause| pause.since);
        self.record_pause_in_time(PauseRecord { entry: entry.to_owned(), since, until, ended: None }).await?;
        self.pauses.set(entry, since, until);
        tracing::info!(entry, until = until.map(format_instant), "paused: the entry starts no run automatically");
        if self.queue.remove(entry) {
            self.run_waiters.retain(|name| name != entry || self.running.contains_key(name));
            self.pauses.request_run_at_end(entry);
        }
        if let Some(stop) = self.running.get(entry) {
            stop.drain.cancel();
        }
        self.publish_status().await;
        Ok(Accepted::Paused)
    }

    /// Ends a pause, even if the entry is no longer in the configuration.
    pub(super) async fn resume(&mut self, entry: &str, now: DateTime<Utc>) -> Result<Accepted, Refusal> {
        let Some(pause) = self.pauses.get(entry) else {
            let exists = self.has_entry(entry);
            return if exists { Ok(Accepted::NotPaused) } else { Err(Refusal::UnknownEntry(entry.to_owned())) };
        };
        let (since, until) = (pause.since, pause.until);
        self.record_pause_in_time(PauseRecord { entry: entry.to_owned(), since, until, ended: Some(now) }).await?;
        tracing::info!(entry, "resumed");
        // All scheduled runs that were due until now are skipped, even if the loop has not processed these runs yet.
        self.timetable.hold(entry, now);
        self.end_pause(entry);
        self.publish_status().await;
        Ok(Accepted::Resumed)
    }

    /// Ends the pause of an entry, and queues a run that was requested for the end of the pause.
    pub(super) fn end_pause(&mut self, entry: &str) {
        let has_waiting_run = self.pauses.end(entry) == Some(true);
        if self.running.get(entry).is_some_and(|stop| stop.drain.is_cancelled()) {
            // The pause stopped this run, but the run has not ended yet. When the run ends, the loop queues a new run
            // of the entry.
            self.renewed.insert(entry.to_owned());
        }
        // If a run is under way, the queued run starts after the end of the run under way. The queued run
        // is needed, because the run under way can be limited to other tags.
        if has_waiting_run && self.has_entry(entry) {
            tracing::info!(entry, "resumes after the pause");
            self.queue.push(QueuedRun { entry: entry.to_owned(), trigger: Trigger::Continued, only: None });
        }
    }

    /// Records a pause or its end in the journal, and waits at most `JOURNAL_TIMEOUT` for the journal.
    async fn record_pause_in_time(&self, pause: PauseRecord) -> Result<(), Refusal> {
        let Some(journal) = &self.engine.journal else { return Ok(()) };
        let in_force = self.in_force_instead_of(&pause);
        match tokio::time::timeout(JOURNAL_TIMEOUT, journal.record_pause(pause)).await {
            Ok(written) => written.map_err(|error| Refusal::Unwritten(error.to_string())),
            Err(_) => {
                // The journal may still write the first record. A second record then restores the present state.
                // Polling the future once puts the second record into the queue of the journal, before any later
                // request.
                let journal = journal.clone();
                let mut restoring = Box::pin(async move { journal.record_pause(in_force).await });
                if futures_util::poll!(&mut restoring).is_pending() {
                    tokio::spawn(restoring);
                }
                Err(Refusal::Unwritten(no_response()))
            }
        }
    }

    /// Returns a record of the present pause state of the entry. If the journal does not confirm `pause` in time, this
    /// record undoes `pause`.
    fn in_force_instead_of(&self, pause: &PauseRecord) -> PauseRecord {
        let entry = pause.entry.clone();
        match self.pauses.get(&entry) {
            Some(Pause { since, until, .. }) => PauseRecord { entry, since, until, ended: None },
            None => PauseRecord { entry, since: pause.since, until: None, ended: Some(pause.since) },
        }
    }
}

/// Returns the reason for a refusal: the journal did not respond within `JOURNAL_TIMEOUT`.
fn no_response() -> String {
    format!("no response within {}", humantime::format_duration(JOURNAL_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::super::loop_state::tests::service;
    use super::*;
    use crate::journal::Journal;
    use crate::schedule::Timing;
    use crate::sync::{RunOutcome, RunReport, Stop, TagFilter};

    #[tokio::test]
    async fn paused_entry_skips_runs_also_after_restart() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let now = Utc::now();
        let timing =
            Timing { schedule: "* * * * *".parse().unwrap(), timezone: chrono_tz::UTC, jitter: Duration::ZERO };
        let mut daemon = service(folder.path(), &journal).await;
        daemon.timetable.set("app", timing, None, now);
        daemon.pause("app", None, now).await.unwrap();
        daemon.start_due(now + TimeDelta::minutes(5));
        assert!(daemon.running.is_empty());
        let refused = daemon.run_now("app".into(), Trigger::Requested, None).unwrap_err();
        assert_eq!(refused.to_string(), "the entry is paused: `transship resume app` ends the pause");

        let mut restarted = service(folder.path(), &journal).await;
        restarted.resume_from_journal().await.unwrap();
        assert_eq!(restarted.pauses.get("app").map(|pause| pause.until), Some(None));

        let over = now + TimeDelta::minutes(5);
        assert_eq!(daemon.resume("app", over).await, Ok(Accepted::Resumed));
        daemon.start_due(over);
        assert!(daemon.running.is_empty(), "no missed run starts");
        daemon.start_due(over + TimeDelta::seconds(61));
        assert!(daemon.running.contains_key("app"));
        let records = journal.pauses().await.unwrap();
        assert_eq!(records.iter().map(|record| record.ended_at(over).is_some()).collect::<Vec<_>>(), [true]);
    }

    #[tokio::test]
    async fn pushes_around_a_pause_run_at_its_end() {
        let only = || Some(TagFilter::from_tag("app".parse().unwrap(), "v1".parse().unwrap()));
        let push = |daemon: &mut Service| daemon.run_now("app".into(), Trigger::PushEvent, only());
        let pass_delay = async || {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(2)).await;
            tokio::time::resume();
        };
        let now = Utc::now();
        for when in ["debounced before", "queued before", "during"] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let mut daemon = service(folder.path(), &journal).await;
            if when != "during" {
                push(&mut daemon).unwrap();
            }
            if when == "queued before" {
                pass_delay().await;
                daemon.config.daemon.entries_at_once = 0;
                daemon.start_due(now);
                assert!(daemon.queue.iter().next().is_some());
                daemon.config.daemon.entries_at_once = 1;
            }
            daemon.pause("app", None, now).await.unwrap();
            if when == "during" {
                assert_eq!(push(&mut daemon), Ok(Accepted::WaitsAlready));
            }
            pass_delay().await;
            daemon.start_due(now);
            assert!(daemon.running.is_empty(), "{when}");
            daemon.resume("app", now).await.unwrap();
            daemon.start_due(now);
            assert!(daemon.running.contains_key("app"), "{when}");
        }
    }

    #[tokio::test]
    async fn waiting_run_starts_once_after_the_stopped_run() {
        let only = || Some(TagFilter::from_tag("app".parse().unwrap(), "v1".parse().unwrap()));
        let now = Utc::now();
        for what in ["pushed during the pause", "queued before the pause", "only interrupted"] {
            for outcome in [RunOutcome::Succeeded, RunOutcome::Interrupted] {
                let folder = tempfile::tempdir().unwrap();
                let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
                let mut daemon = service(folder.path(), &journal).await;
                // This run stays under way until the end of the test.
                daemon.running.insert("app".into(), Stop::default());
                if what == "queued before the pause" {
                    daemon.limited.insert("app".into());
                    daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
                }
                daemon.pause("app", None, now).await.unwrap();
                if what == "pushed during the pause" {
                    assert_eq!(daemon.run_now("app".into(), Trigger::PushEvent, only()), Ok(Accepted::WaitsAlready));
                }
                daemon.resume("app", now).await.unwrap();
                daemon.start_due(now);
                let is_interrupted = outcome == RunOutcome::Interrupted;
                daemon.end_run(Ok(RunReport { run: Some(1), ..RunReport::new("app", now, now, outcome.clone()) }));
                let due: Vec<QueuedRun> = std::iter::from_fn(|| daemon.queue.pop(|_| true)).collect();
                let whole = QueuedRun { entry: "app".into(), trigger: Trigger::Continued, only: None };
                let expected = if what == "only interrupted" && !is_interrupted { vec![] } else { vec![whole] };
                assert_eq!(due, expected, "{what}, interrupted: {is_interrupted}");
            }
        }
    }

    #[tokio::test]
    async fn stopped_run_resumes_when_the_pause_expires() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut daemon = service(folder.path(), &journal).await;
        let now = Utc::now();
        daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
        let until = now + TimeDelta::hours(2);
        daemon.pause("app", Some(until), now).await.unwrap();
        daemon.start_due(until - TimeDelta::seconds(1));
        assert!(daemon.running.is_empty());
        daemon.start_due(until);
        assert!(daemon.running.contains_key("app"));
        assert_eq!(daemon.resume("app", until).await, Ok(Accepted::NotPaused));
        assert!(daemon.resume("nobody", until).await.is_err());
    }

    #[tokio::test]
    async fn refused_pause_is_not_in_force_after_restart() {
        for paused_before in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal.db");
            let journal = Journal::open(&path).unwrap();
            let mut daemon = service(folder.path(), &journal).await;
            let now = Utc::now();
            if paused_before {
                daemon.pause("app", None, now).await.unwrap();
            }
            let another = rusqlite::Connection::open(&path).unwrap();
            another.execute_batch("BEGIN IMMEDIATE").unwrap();
            tokio::time::pause();
            let refused = match paused_before {
                false => daemon.pause("app", None, now).await,
                true => daemon.resume("app", now).await,
            };
            tokio::time::resume();
            assert_eq!(refused, Err(Refusal::Unwritten("no response within 10s".to_owned())));
            assert_eq!(daemon.pauses.has("app"), paused_before);
            another.execute_batch("ROLLBACK").unwrap();

            let mut restarted = service(folder.path(), &journal).await;
            restarted.restore_pauses(now).await.unwrap();
            assert_eq!(restarted.pauses.has("app"), paused_before, "paused before: {paused_before}");
            // The next request takes effect.
            match paused_before {
                false => daemon.pause("app", None, now).await.unwrap(),
                true => daemon.resume("app", now).await.unwrap(),
            };
            restarted.restore_pauses(now).await.unwrap();
            assert_eq!(restarted.pauses.has("app"), !paused_before, "after the next request");
        }
    }

    #[tokio::test]
    async fn runs_missed_in_an_expired_pause_are_skipped() {
        let (start, end) = ("2026-05-10T01:30:00Z", "2026-05-10T05:30:00Z");
        let [start, end] = [start, end].map(|time| time.parse::<DateTime<Utc>>().unwrap());
        for (until, ended) in [(Some(end), None), (None, Some(end))] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let pause = PauseRecord { entry: "app".to_owned(), since: start, until, ended };
            journal.record_pause(pause).await.unwrap();
            let mut daemon = service(folder.path(), &journal).await;
            let timing =
                Timing { schedule: "0 * * * *".parse().unwrap(), timezone: chrono_tz::UTC, jitter: Duration::ZERO };
            let now = end + TimeDelta::minutes(20);
            // The last scheduled run was right before the pause.
            daemon.timetable.set("app", timing, Some(start - TimeDelta::minutes(30)), now);
            daemon.restore_pauses(now).await.unwrap();
            assert!(!daemon.pauses.has("app"));
            daemon.start_due(now);
            assert!(daemon.running.is_empty(), "02:00 to 05:00 were within the pause");
            daemon.start_due(now + TimeDelta::minutes(10));
            assert!(daemon.running.contains_key("app"), "06:00");
            daemon.runs.join_next().await.unwrap().unwrap();
        }
    }
}
