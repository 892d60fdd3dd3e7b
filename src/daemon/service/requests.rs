//! Requests to the loop while it runs: a run now, a run of pushed tags, a pause and its end.

use chrono::Utc;

use super::Service;
use super::run_queue::Due;
use crate::daemon::control::Asked;
use crate::daemon::{Accepted, Command, Refusal};
use crate::journal::Trigger;
use crate::sync::TagFilter;

impl Service {
    pub(super) async fn asked(&mut self, Asked { command, answer, ended }: Asked) {
        let entry = command.entry().to_owned();
        let answered = match command {
            Command::Run { entry, trigger, only } => self.run_now(entry, trigger, only),
            Command::Pause { entry, until } => self.pause(&entry, until, Utc::now()).await,
            Command::Resume { entry } => self.resume(&entry, Utc::now()).await,
        };
        if let (Ok(_), Some(ended)) = (&answered, ended) {
            self.awaited.add(entry, ended);
        }
        // The sender of the command may be gone.
        let _ = answer.send(answered);
    }

    /// Queues a run that a caller requests. Neither the schedule nor a back-off delays it.
    pub(super) fn run_now(
        &mut self,
        entry: String,
        trigger: Trigger,
        only: Option<TagFilter>,
    ) -> Result<Accepted, Refusal> {
        if !self.has(&entry) {
            return Err(Refusal::UnknownEntry(entry));
        }
        if trigger == Trigger::PushEvent && self.pauses.owe(&entry) {
            return Ok(Accepted::WaitsAlready);
        }
        if self.pauses.has(&entry) {
            return Err(Refusal::Paused(entry));
        }
        if trigger == Trigger::PushEvent {
            // A run under way may have read the tag before the push.
            let was_there = self.gathering.add(entry, only, tokio::time::Instant::now());
            return Ok(if was_there { Accepted::WaitsAlready } else { Accepted::Queued });
        }
        if self.runs_whole(&entry) {
            return Ok(Accepted::RunsAlready);
        }
        if self.waiting.has_whole(&entry) {
            return Ok(Accepted::WaitsAlready);
        }
        tracing::debug!(entry, trigger = trigger.word(), "a run is asked for");
        self.waiting.push(Due { entry, trigger, only });
        Ok(Accepted::Queued)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::super::tests::service;
    use super::*;
    use crate::journal::Journal;

    #[tokio::test]
    async fn a_run_that_is_asked_for_waits_for_no_back_off_and_is_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut daemon = service(folder.path(), &journal).await;
        let now = Utc::now();
        daemon.timetable.hold("app", now + TimeDelta::hours(1));
        let unknown = daemon.run_now("nobody".into(), Trigger::Requested, None).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no entry \"nobody\" in the configuration that is in force");
        assert_eq!(daemon.run_now("app".into(), Trigger::Requested, None), Ok(Accepted::Queued));
        assert_eq!(daemon.run_now("app".into(), Trigger::Requested, None), Ok(Accepted::WaitsAlready));
        daemon.start_due(now);
        assert_eq!(daemon.run_now("app".into(), Trigger::Requested, None), Ok(Accepted::RunsAlready));
        daemon.runs.join_next().await.unwrap().unwrap();
        let history = journal.history(&crate::journal::HistoryFilter::default()).await.unwrap();
        assert_eq!(history.iter().map(|run| run.trigger).collect::<Vec<_>>(), [Trigger::Requested]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_waits_behind_the_run_under_way_and_holds_no_firing_up() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut daemon = service(folder.path(), &journal).await;
        let now = Utc::now();
        let only = |tag: &str| Some(TagFilter::tag("app".parse().unwrap(), tag.parse().unwrap()));
        let push = |service: &mut Service, tag| service.run_now("app".into(), Trigger::PushEvent, only(tag));
        let moment = || tokio::time::sleep(Duration::from_secs(2));
        daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
        daemon.start_due(now);
        assert_eq!(push(&mut daemon, "v1"), Ok(Accepted::Queued));
        moment().await;
        daemon.start_due(now);
        assert_eq!(push(&mut daemon, "v2"), Ok(Accepted::Queued));
        assert_eq!(push(&mut daemon, "v2"), Ok(Accepted::WaitsAlready));
        moment().await;
        daemon.start_due(now);
        assert!(daemon.confined.is_empty(), "the run of all tags still runs");
        let ended = daemon.runs.join_next().await.unwrap();
        daemon.ended(ended);
        daemon.start_due(now);
        assert!(daemon.confined.contains("app"));
        assert_eq!(daemon.waiting.pop(|_| true), None, "all pushes are one run");
        assert!(!daemon.is_under_way("app"), "what is due meanwhile is not left out");
        assert_eq!(daemon.run_now("app".into(), Trigger::Requested, None), Ok(Accepted::Queued));
        let ended = daemon.runs.join_next().await.unwrap();
        daemon.ended(ended);
        assert!(daemon.confined.is_empty());
    }
}
