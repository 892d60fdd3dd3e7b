//! Execution of commands by the loop: start a run, run pushed tags, pause an entry, resume an entry.

use chrono::Utc;

use super::loop_state::Service;
use super::run_queue::QueuedRun;
use crate::daemon::control::PendingCommand;
use crate::daemon::{Accepted, Command, Refusal};
use crate::journal::Trigger;
use crate::sync::TagFilter;

impl Service {
    /// Executes a command, and answers its sender.
    pub(super) async fn handle_command(&mut self, PendingCommand { command, answer, ended }: PendingCommand) {
        let entry = command.entry().to_owned();
        let result = match command {
            Command::Run { entry, trigger, only } => self.run_now(entry, trigger, only),
            Command::Pause { entry, until } => self.pause(&entry, until, Utc::now()).await,
            Command::Resume { entry } => self.resume(&entry, Utc::now()).await,
        };
        if let (Ok(_), Some(ended)) = (&result, ended) {
            self.run_waiters.add(entry, ended);
        }
        // The sender of the command may be gone.
        let _ = answer.send(result);
    }

    /// Queues a run that a caller requests. Neither the schedule nor a back-off delays the run. A run of pushed tags is
    /// queued one second after the first push.
    pub(super) fn run_now(
        &mut self,
        entry: String,
        trigger: Trigger,
        only: Option<TagFilter>,
    ) -> Result<Accepted, Refusal> {
        if !self.has_entry(&entry) {
            return Err(Refusal::UnknownEntry(entry));
        }
        if trigger == Trigger::PushEvent && self.pauses.request_run_at_end(&entry) {
            return Ok(Accepted::WaitsAlready);
        }
        if self.pauses.has(&entry) {
            return Err(Refusal::Paused(entry));
        }
        if trigger == Trigger::PushEvent {
            // If a run is under way, a push still queues another run: the run under way may have read the tag before
            // the push.
            let was_waiting = self.push_debounce.add(entry, only, tokio::time::Instant::now());
            return Ok(if was_waiting { Accepted::WaitsAlready } else { Accepted::Queued });
        }
        if self.runs_whole(&entry) {
            return Ok(Accepted::RunsAlready);
        }
        if self.queue.has_whole(&entry) {
            return Ok(Accepted::WaitsAlready);
        }
        tracing::debug!(entry, trigger = trigger.word(), "a run is requested");
        self.queue.push(QueuedRun { entry, trigger, only });
        Ok(Accepted::Queued)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::super::loop_state::tests::service;
    use super::*;
    use crate::journal::Journal;

    #[tokio::test]
    async fn requested_run_ignores_back_off_and_runs_once() {
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
    async fn push_waits_for_the_run_and_delays_no_schedule() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut daemon = service(folder.path(), &journal).await;
        let now = Utc::now();
        let only = |tag: &str| Some(TagFilter::from_tag("app".parse().unwrap(), tag.parse().unwrap()));
        let push = |service: &mut Service, tag| service.run_now("app".into(), Trigger::PushEvent, only(tag));
        let pass_delay = || tokio::time::sleep(Duration::from_secs(2));
        daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
        daemon.start_due(now);
        assert_eq!(push(&mut daemon, "v1"), Ok(Accepted::Queued));
        pass_delay().await;
        daemon.start_due(now);
        assert_eq!(push(&mut daemon, "v2"), Ok(Accepted::Queued));
        assert_eq!(push(&mut daemon, "v2"), Ok(Accepted::WaitsAlready));
        pass_delay().await;
        daemon.start_due(now);
        assert!(daemon.limited.is_empty(), "the run of all tags still runs");
        let ended = daemon.runs.join_next().await.unwrap();
        daemon.end_run(ended);
        daemon.start_due(now);
        assert!(daemon.limited.contains("app"));
        assert_eq!(daemon.queue.pop(|_| true), None, "all pushes are one run");
        assert!(!daemon.is_under_way("app"), "a scheduled run is not skipped during the run of some tags");
        assert_eq!(daemon.run_now("app".into(), Trigger::Requested, None), Ok(Accepted::Queued));
        let ended = daemon.runs.join_next().await.unwrap();
        daemon.end_run(ended);
        assert!(daemon.limited.is_empty());
    }
}
