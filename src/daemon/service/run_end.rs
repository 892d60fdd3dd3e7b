//! End of a run: the slot of the run becomes free, the waiters for its end are notified, and the entry is backed off or
//! resumes.

use chrono::Utc;
use tokio::task::JoinError;

use super::loop_state::Service;
use super::run_queue::QueuedRun;
use crate::journal::Trigger;
use crate::sync::{BROKE_DOWN, RunOutcome, RunReport};

impl Service {
    /// Applies the end of a run. A run that panicked ends as a failed run.
    pub(super) fn end_run(&mut self, ended: Result<RunReport, JoinError>) {
        match ended {
            Ok(report) => {
                self.tasks.retain(|_, entry| *entry != report.entry);
                self.running.remove(&report.entry);
                let was_whole = !self.limited.remove(&report.entry);
                self.state.record_run_end(&report);
                if report.outcome == RunOutcome::Interrupted && self.has_entry(&report.entry) {
                    self.pauses.request_run_at_end(&report.entry);
                }
                let is_renewed = self.renewed.remove(&report.entry) && self.has_entry(&report.entry);
                if is_renewed && report.outcome == RunOutcome::Interrupted && !self.pauses.has(&report.entry) {
                    self.queue.push_first(QueuedRun {
                        entry: report.entry.clone(),
                        trigger: Trigger::Continued,
                        only: None,
                    });
                } else if was_whole {
                    self.run_waiters.notify_end(&report);
                }
                self.back_off(&report.entry);
                if let Some(until) = report.deferred_until().filter(|_| self.has_entry(&report.entry)) {
                    self.deferred.set(&report.entry, report.ended, until);
                }
            }
            // A panic in a run ends only that run: the daemon and later runs of the entry continue.
            Err(error) => {
                let entry = self.tasks.remove(&error.id());
                tracing::error!(entry, %error, "{BROKE_DOWN}");
                let Some(entry) = entry else { return };
                let now = Utc::now();
                let problems = vec![BROKE_DOWN.to_owned()];
                self.end_run(Ok(RunReport { problems, ..RunReport::new(&entry, now, now, RunOutcome::Failed) }));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::super::loop_state::tests::service;
    use super::*;
    use crate::copy::event::BlobCounts;
    use crate::journal::Journal;
    use crate::sync::{Stop, TagOutcome, TagReport};

    /// Returns the report of a run with one tag that waits for its source.
    pub(in crate::daemon::service) fn deferred_report(ended: DateTime<Utc>, until: DateTime<Utc>) -> RunReport {
        let tag = TagReport {
            source: "docker.io/library/app".into(),
            target: "prod.example/app".into(),
            tag: Some("v1".parse().unwrap()),
            source_tag: None,
            digest: None,
            source_digest: None,
            outcome: TagOutcome::Deferred { until, reason: "the pull limit of docker.io".into() },
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        RunReport { run: Some(1), tags: vec![tag], ..RunReport::new("app", ended, ended, RunOutcome::Deferred) }
    }

    #[tokio::test]
    async fn entry_with_deferred_tags_resumes_automatically() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut service = service(folder.path(), &journal).await;
        let now = Utc::now();
        let until = now + TimeDelta::minutes(30);
        service.end_run(Ok(deferred_report(now, until)));
        service.start_due(until - TimeDelta::seconds(1));
        assert!(service.running.is_empty());
        service.start_due(until + TimeDelta::minutes(8));
        assert!(service.running.contains_key("app"));
        service.runs.join_next().await.unwrap().unwrap();
        let history = journal.history(&crate::journal::HistoryFilter::default()).await.unwrap();
        assert_eq!(history[0].trigger, Trigger::Continued);
    }

    #[tokio::test]
    async fn panicked_run_frees_its_entry_and_notifies_waiters() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut daemon = service(folder.path(), &journal).await;
        let (waiter, end) = tokio::sync::oneshot::channel();
        daemon.run_waiters.add("app".into(), waiter);
        daemon.spawn_run("app", Stop::default(), Trigger::Requested, async { panic!("a bug") });
        assert!(daemon.is_under_way("app"));
        let ended = daemon.runs.join_next().await.unwrap();
        daemon.end_run(ended);
        assert!(!daemon.is_under_way("app") && !daemon.state.is_running("app") && daemon.tasks.is_empty());
        let end = end.await.unwrap();
        assert_eq!((end.outcome, end.problem.as_deref()), (RunOutcome::Failed, Some(BROKE_DOWN)));
        daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
        daemon.start_due(Utc::now());
        let ended = daemon.runs.join_next().await.unwrap().unwrap();
        assert_eq!(ended.outcome, RunOutcome::Failed, "there is no layout");
    }
}
