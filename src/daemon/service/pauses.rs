//! Pauses of entries: the journal records them before they are in force, the start restores them from there, and a
//! person or their time ends them.

use chrono::{DateTime, Utc};

use super::paused_entries::{Pause, Pauses};
use super::run_queue::Due;
use super::{Service, WITHIN};
use crate::daemon::{Accepted, Refusal};
use crate::journal::{JournalError, PauseRecord, Trigger};
use crate::sync::report::told;

impl Service {
    /// Restores the pauses that are still in force. Scheduled runs that were due during a pause that is over are not
    /// caught up.
    pub(super) async fn take_up_pauses(&mut self, now: DateTime<Utc>) -> Result<(), JournalError> {
        let Some(journal) = &self.engine.journal else { return Ok(()) };
        let records = journal.pauses().await?;
        self.pauses = Pauses::of(&records, now);
        for (record, over) in records.iter().filter_map(|record| Some((record, record.ended_at(now)?))) {
            self.timetable.hold(&record.entry, over);
        }
        Ok(())
    }

    /// Pauses an entry: it starts no runs automatically. A run under way finishes its current tags and resumes at the
    /// end of the pause. A run that waits for a slot also starts then.
    pub(super) async fn pause(
        &mut self,
        entry: &str,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Accepted, Refusal> {
        if !self.has(entry) {
            return Err(Refusal::UnknownEntry(entry.to_owned()));
        }
        let since = self.pauses.get(entry).map_or(now, |pause| pause.since);
        self.write_down(PauseRecord { entry: entry.to_owned(), since, until, ended: None }).await?;
        self.pauses.set(entry, since, until);
        tracing::info!(entry, until = until.map(told), "paused: it begins no run by itself");
        if self.waiting.remove(entry) {
            self.awaited.retain(|name| name != entry || self.running.contains_key(name));
            self.pauses.owe(entry);
        }
        if let Some(stop) = self.running.get(entry) {
            stop.drain.cancel();
        }
        Ok(Accepted::Paused)
    }

    /// Ends a pause, also for an entry that is no longer in the configuration.
    pub(super) async fn resume(&mut self, entry: &str, now: DateTime<Utc>) -> Result<Accepted, Refusal> {
        let Some(pause) = self.pauses.get(entry) else {
            let known = self.has(entry);
            return if known { Ok(Accepted::NotPaused) } else { Err(Refusal::UnknownEntry(entry.to_owned())) };
        };
        let (since, until) = (pause.since, pause.until);
        self.write_down(PauseRecord { entry: entry.to_owned(), since, until, ended: Some(now) }).await?;
        tracing::info!(entry, "resumed");
        // Scheduled runs that were due until now are settled, even if the loop has not iterated since then.
        self.timetable.hold(entry, now);
        self.end_pause(entry);
        Ok(Accepted::Resumed)
    }

    pub(super) fn end_pause(&mut self, entry: &str) {
        let owes = self.pauses.end(entry) == Some(true);
        if self.running.get(entry).is_some_and(|stop| stop.drain.is_cancelled()) {
            // The run was asked to stop and has not stopped yet: it resumes in the same way as a run whose
            // configuration changed.
            self.renewed.insert(entry.to_owned());
        }
        // The owed run may be about other tags than the run under way. It follows that run, however that run ends.
        if owes && self.has(entry) {
            tracing::info!(entry, "goes on where the pause stopped it");
            self.waiting.push(Due { entry: entry.to_owned(), trigger: Trigger::Continued, only: None });
        }
    }

    async fn write_down(&self, pause: PauseRecord) -> Result<(), Refusal> {
        let Some(journal) = &self.engine.journal else { return Ok(()) };
        let in_force = self.in_force_instead_of(&pause);
        match tokio::time::timeout(WITHIN, journal.record_pause(pause)).await {
            Ok(written) => written.map_err(|error| Refusal::Unwritten(error.to_string())),
            Err(_) => {
                // The journal may still write the record that it received. This second record then restores the state
                // in force. It enters the queue of the journal before any later request.
                let journal = journal.clone();
                let mut behind = Box::pin(async move { journal.record_pause(in_force).await });
                if futures_util::poll!(&mut behind).is_pending() {
                    tokio::spawn(behind);
                }
                Err(Refusal::Unwritten("it takes too long".to_owned()))
            }
        }
    }

    /// Returns the record that the journal must contain for the entry if it cannot write `pause`.
    fn in_force_instead_of(&self, pause: &PauseRecord) -> PauseRecord {
        let entry = pause.entry.clone();
        match self.pauses.get(&entry) {
            Some(Pause { since, until, .. }) => PauseRecord { entry, since, until, ended: None },
            None => PauseRecord { entry, since: pause.since, until: None, ended: Some(pause.since) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::super::tests::service;
    use super::*;
    use crate::journal::Journal;
    use crate::schedule::Timing;
    use crate::sync::{RunOutcome, RunReport, Stop, TagFilter};

    #[tokio::test]
    async fn a_paused_entry_begins_nothing_and_what_it_would_have_fired_is_not_made_up_for_even_after_a_restart() {
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
        assert_eq!(refused.to_string(), "it is paused: `transship resume app` ends that");

        let mut restarted = service(folder.path(), &journal).await;
        restarted.take_up().await.unwrap();
        assert_eq!(restarted.pauses.get("app").map(|pause| pause.until), Some(None));

        let over = now + TimeDelta::minutes(5);
        assert_eq!(daemon.resume("app", over).await, Ok(Accepted::Resumed));
        daemon.start_due(over);
        assert!(daemon.running.is_empty(), "nothing is made up for");
        daemon.start_due(over + TimeDelta::seconds(61));
        assert!(daemon.running.contains_key("app"));
        let records = journal.pauses().await.unwrap();
        assert_eq!(records.iter().map(|record| record.ended_at(over).is_some()).collect::<Vec<_>>(), [true]);
    }

    #[tokio::test]
    async fn what_is_pushed_before_or_during_a_pause_comes_at_its_end() {
        let only = || Some(TagFilter::tag("app".parse().unwrap(), "v1".parse().unwrap()));
        let push = |daemon: &mut Service| daemon.run_now("app".into(), Trigger::PushEvent, only());
        let moment = async || {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(2)).await;
            tokio::time::resume();
        };
        let now = Utc::now();
        for when in ["gathered before", "waiting before", "during"] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let mut daemon = service(folder.path(), &journal).await;
            if when != "during" {
                push(&mut daemon).unwrap();
            }
            if when == "waiting before" {
                moment().await;
                daemon.config.daemon.entries_at_once = 0;
                daemon.start_due(now);
                assert!(daemon.waiting.iter().next().is_some());
                daemon.config.daemon.entries_at_once = 1;
            }
            daemon.pause("app", None, now).await.unwrap();
            if when == "during" {
                assert_eq!(push(&mut daemon), Ok(Accepted::WaitsAlready));
            }
            moment().await;
            daemon.start_due(now);
            assert!(daemon.running.is_empty(), "{when}");
            daemon.resume("app", now).await.unwrap();
            daemon.start_due(now);
            assert!(daemon.running.contains_key("app"), "{when}");
        }
    }

    #[tokio::test]
    async fn what_a_pause_owes_comes_once_though_the_pause_ends_before_the_run_that_it_stops() {
        let only = || Some(TagFilter::tag("app".parse().unwrap(), "v1".parse().unwrap()));
        let now = Utc::now();
        for what in ["pushed during it", "queued before it", "nothing but what is left"] {
            for outcome in [RunOutcome::Succeeded, RunOutcome::Interrupted] {
                let folder = tempfile::tempdir().unwrap();
                let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
                let mut daemon = service(folder.path(), &journal).await;
                // This run stays under way for as long as the test needs it.
                daemon.running.insert("app".into(), Stop::default());
                if what == "queued before it" {
                    daemon.confined.insert("app".into());
                    daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
                }
                daemon.pause("app", None, now).await.unwrap();
                if what == "pushed during it" {
                    assert_eq!(daemon.run_now("app".into(), Trigger::PushEvent, only()), Ok(Accepted::WaitsAlready));
                }
                daemon.resume("app", now).await.unwrap();
                daemon.start_due(now);
                let (started, ended) = (now, now);
                let (entry, tags, problems) = ("app".to_owned(), Vec::new(), Vec::new());
                let cut_off = outcome == RunOutcome::Interrupted;
                let outcome = outcome.clone();
                daemon.ended(Ok(RunReport {
                    entry,
                    run: Some(1),
                    started,
                    ended,
                    outcome,
                    tags,
                    problems,
                    in_doubt: Vec::new(),
                    left_behind: Vec::new(),
                    warnings: Vec::new(),
                }));
                let due: Vec<Due> = std::iter::from_fn(|| daemon.waiting.pop(|_| true)).collect();
                let whole = Due { entry: "app".into(), trigger: Trigger::Continued, only: None };
                let expected = if what.starts_with("nothing") && !cut_off { vec![] } else { vec![whole] };
                assert_eq!(due, expected, "{what}, cut off: {cut_off}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_pause_stopped_goes_on_when_its_time_is_over() {
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
    async fn what_was_refused_because_the_journal_takes_too_long_is_not_in_force_after_a_restart_either() {
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
            assert_eq!(refused, Err(Refusal::Unwritten("it takes too long".to_owned())));
            assert_eq!(daemon.pauses.has("app"), paused_before);
            another.execute_batch("ROLLBACK").unwrap();

            let mut restarted = service(folder.path(), &journal).await;
            restarted.take_up_pauses(now).await.unwrap();
            assert_eq!(restarted.pauses.has("app"), paused_before, "paused before: {paused_before}");
            // The next request takes effect.
            match paused_before {
                false => daemon.pause("app", None, now).await.unwrap(),
                true => daemon.resume("app", now).await.unwrap(),
            };
            restarted.take_up_pauses(now).await.unwrap();
            assert_eq!(restarted.pauses.has("app"), !paused_before, "the next one");
        }
    }

    #[tokio::test]
    async fn what_would_have_fired_in_a_pause_that_ended_while_the_daemon_was_off_is_not_made_up_for() {
        let (began, over) = ("2026-05-10T01:30:00Z", "2026-05-10T05:30:00Z");
        let [began, over] = [began, over].map(|time| time.parse::<DateTime<Utc>>().unwrap());
        for (until, ended) in [(Some(over), None), (None, Some(over))] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let pause = PauseRecord { entry: "app".to_owned(), since: began, until, ended };
            journal.record_pause(pause).await.unwrap();
            let mut daemon = service(folder.path(), &journal).await;
            let timing =
                Timing { schedule: "0 * * * *".parse().unwrap(), timezone: chrono_tz::UTC, jitter: Duration::ZERO };
            let now = over + TimeDelta::minutes(20);
            // The last scheduled run was right before the pause.
            daemon.timetable.set("app", timing, Some(began - TimeDelta::minutes(30)), now);
            daemon.take_up_pauses(now).await.unwrap();
            assert!(!daemon.pauses.has("app"));
            daemon.start_due(now);
            assert!(daemon.running.is_empty(), "02:00 to 05:00 were within the pause");
            daemon.start_due(now + TimeDelta::minutes(10));
            assert!(daemon.running.contains_key("app"), "06:00");
            daemon.runs.join_next().await.unwrap().unwrap();
        }
    }
}
