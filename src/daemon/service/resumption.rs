//! Resumption of the daemon's work at its start, from the journal.

use chrono::{TimeDelta, Utc};

use super::loop_state::Service;
use super::run_queue::QueuedRun;
use crate::journal::{JournalError, Trigger};

impl Service {
    /// Restores the state of the loop from the journal:
    /// - the timetable; if an entry missed several runs, one run catches up;
    /// - pauses;
    /// - interrupted runs, which resume;
    /// - deferred tags, which wait until their recorded time.
    pub(super) async fn resume_from_journal(&mut self) -> Result<(), JournalError> {
        let now = Utc::now();
        let last = self.last_firings().await?;
        self.set_timetable(&last, now);
        last.values().copied().chain(self.state.last_ends()).for_each(|instant| self.setbacks.record_instant(instant));
        self.follow_clock(now);
        self.restore_pauses(now).await?;
        let interrupted = self.state.interrupted_entries();
        for entry in self.entries.iter().filter(|entry| interrupted.contains(entry.name.as_str())) {
            if self.pauses.request_run_at_end(entry.name.as_str()) {
                continue;
            }
            tracing::info!(entry = %entry.name, "resumes the interrupted last run");
            self.queue.push(QueuedRun { entry: entry.name.to_string(), trigger: Trigger::Start, only: None });
        }
        for (entry, ended, until) in self.state.deferred().filter(|(entry, ..)| !interrupted.contains(*entry)) {
            // If the clock was set back since the run ended, the wait restarts with its full length.
            let ahead = (ended - now).max(TimeDelta::zero());
            self.deferred.set(entry, ended - ahead, until - ahead);
        }
        self.deferred.retain(|name| self.entries.iter().any(|entry| entry.name.as_str() == name));
        let on_start = self.entries.iter().filter(|entry| entry.on_start && !self.pauses.has(entry.name.as_str()));
        for entry in on_start {
            self.queue.push(QueuedRun { entry: entry.name.to_string(), trigger: Trigger::Start, only: None });
        }
        for entry in self.entries.clone().iter() {
            self.back_off(entry.name.as_str());
        }
        self.state.apply_configuration(&self.entries, &self.config.hosts(), &self.config.warnings, now);
        self.state.set_push_receivers(self.config.receivers().map(|(name, _)| name.as_str()));
        self.notices.report_configuration(&self.config, now).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::loop_state::tests::service;
    use super::super::run_end::tests::deferred_report;
    use super::*;
    use crate::journal::{Journal, RunEnd, RunStart};

    #[tokio::test]
    async fn deferred_tags_resume_after_restart_unless_manual() {
        for (trigger, resumes) in [(Trigger::Continued, true), (Trigger::Manual, false)] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let now = Utc::now();
            let report = deferred_report(now, now + TimeDelta::minutes(30));
            let RunStart::Started(run) = journal.begin_run("app", trigger, now).await.unwrap() else { panic!("runs") };
            let end = RunEnd {
                outcome: report.journal_outcome(),
                tags: report.counts(),
                bytes: 0,
                error: report.first_problem(),
                deferred_until: report.deferred_until(),
            };
            journal.end_run(run, end, now).await.unwrap();
            let mut service = service(folder.path(), &journal).await;
            service.resume_from_journal().await.unwrap();
            assert_eq!(service.state.deferred().count(), usize::from(resumes));
            service.start_due(now + TimeDelta::minutes(29));
            assert!(service.running.is_empty());
            service.start_due(now + TimeDelta::minutes(38));
            assert_eq!(service.running.contains_key("app"), resumes, "{trigger:?}");
        }
    }
}
