//! Starts, events and ends of runs, applied to the state of the daemon.

use chrono::{DateTime, Utc};

use super::{DaemonState, MAX_FAILURES};
use crate::daemon::status::entry_history::is_success;
use crate::journal::{Outcome, TagCounts, Trigger};
use crate::status::{EndedRun, FailedRun, LastRun, RunningState};
use crate::sync::{RunEvent, RunOutcome, RunReport};

impl DaemonState {
    /// Records that a run of an entry starts.
    pub(crate) fn record_run_start(&mut self, entry: &str, trigger: Trigger, now: DateTime<Utc>) {
        let (counts, trigger) = (TagCounts::default(), trigger.word().to_owned());
        let running = RunningState {
            since: now,
            trigger,
            counts,
            tags: None,
            bytes_sent: 0,
            bytes_expected: None,
            bytes_per_second: None,
        };
        self.past.entry(entry.to_owned()).or_default().running = Some(running);
        self.active.add_run(entry);
        self.show_entry(entry);
    }

    /// Applies an event of a run.
    pub(crate) fn apply_event(&mut self, entry: String, event: RunEvent) {
        self.active.apply_event(entry, event, Utc::now());
    }

    /// Records that a run ended.
    pub(crate) fn record_run_end(&mut self, report: &RunReport) {
        let outcome = report.journal_outcome();
        let sent = self.active.sent(&report.entry);
        self.active.remove_run(&report.entry);
        let past = self.past.entry(report.entry.clone()).or_default();
        let pushed = past.running.take().is_some_and(|running| running.trigger == Trigger::PushEvent.word());
        // The success of a run for pushed tags does not prove that the whole entry succeeds.
        let success = is_success(outcome).filter(|success| !(pushed && *success));
        // A run that was limited to some tags, or was stopped, does not know the items that it did not process.
        if !pushed && matches!(report.outcome, RunOutcome::Succeeded | RunOutcome::Failed | RunOutcome::Deferred) {
            past.warnings.clone_from(&report.warnings);
            let has_no_tags = report.outcome == RunOutcome::Succeeded && report.tags.is_empty();
            past.never_matched = has_no_tags || !report.warnings.is_empty();
        }
        if let Some(run) = report.run {
            let last_run = LastRun {
                run,
                outcome: outcome.word().to_owned(),
                started: Some(report.started),
                ended: report.ended,
                counts: report.counts(),
                bytes_sent: report.bytes(),
                error: report.first_problem(),
            };
            let made_progress = outcome.made_progress(sent.max(last_run.bytes_sent), last_run.counts);
            past.last_run = Some(last_run);
            match success {
                Some(true) => past.last_success = Some(report.ended),
                Some(false) => past.last_failure = Some(report.ended),
                None => {}
            }
            let count_failure = |before: u32| match outcome {
                _ if pushed => before,
                Outcome::Failed | Outcome::TimedOut => before.saturating_add(1),
                // An interrupted run proves neither success nor failure.
                Outcome::Interrupted => before,
                Outcome::Succeeded | Outcome::Deferred => 0,
            };
            past.failures = count_failure(past.failures);
            past.fruitless = if made_progress { 0 } else { count_failure(past.fruitless) };
            if outcome.is_failure() {
                let (entry, error) = (report.entry.clone(), report.first_problem());
                let outcome = outcome.word().to_owned();
                self.failures.push_front(FailedRun { entry, run, outcome, ended: report.ended, error });
                self.failures.truncate(MAX_FAILURES);
            }
            self.metrics.set_consecutive_failures(&report.entry, past.failures);
            self.metrics.record_run(
                &report.entry,
                &EndedRun {
                    outcome,
                    success,
                    ended: report.ended,
                    duration: (report.ended - report.started).to_std().unwrap_or_default(),
                    counts: report.counts(),
                },
            );
        }
        self.show_entry(&report.entry);
        self.show_warnings();
    }

    /// Returns the number of consecutive failures of an entry since a run made progress, and the time of the last
    /// failure.
    pub(crate) fn fruitless_failures(&self, entry: &str) -> (u32, Option<DateTime<Utc>>) {
        self.past.get(entry).map_or((0, None), |past| (past.fruitless, past.last_failure))
    }

    #[cfg(test)]
    pub(crate) fn is_running(&self, entry: &str) -> bool {
        self.past.get(entry).is_some_and(|past| past.running.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::state;
    use super::*;
    use crate::config::Warning;
    use crate::copy::event::{BlobCounts, Event, Transfer};
    use crate::journal::{Begun, Journal, RunEnd};
    use crate::oci::Digest;
    use crate::sync::{TagOutcome, TagReport};

    #[tokio::test]
    async fn run_for_pushed_tags_ends_no_failure_streak() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut live = state(&journal).await;
        let summary = |state: &DaemonState| {
            let past = &state.past["a"];
            (past.failures, past.last_success.is_some(), past.last_failure.is_some())
        };
        for (trigger, outcome, expected) in [
            (Trigger::Start, RunOutcome::Interrupted, (0, false, false)),
            (Trigger::PushEvent, RunOutcome::Succeeded, (0, false, false)),
            (Trigger::PushEvent, RunOutcome::Failed, (0, false, true)),
            (Trigger::Start, RunOutcome::Failed, (1, false, true)),
            (Trigger::PushEvent, RunOutcome::Succeeded, (1, false, true)),
            (Trigger::PushEvent, RunOutcome::Failed, (1, false, true)),
            (Trigger::Start, RunOutcome::Succeeded, (0, true, true)),
        ] {
            let now = Utc::now();
            let Begun::Started(id) = journal.begin_run("a", trigger, now).await.unwrap() else { panic!("not started") };
            live.record_run_start("a", trigger, now);
            let report = RunReport { run: Some(id.number()), ..RunReport::new("a", now, now, outcome) };
            let outcome = report.journal_outcome();
            let end = RunEnd { outcome, tags: TagCounts::default(), bytes: 0, error: None, deferred_until: None };
            journal.end_run(id, end, now).await.unwrap();
            live.record_run_end(&report);
            assert_eq!(summary(&live), expected, "{trigger:?} {outcome:?}");
            assert_eq!(summary(&state(&journal).await), expected, "after a restart: {trigger:?} {outcome:?}");
        }
    }

    #[tokio::test]
    async fn selection_without_a_match_is_reported_until_it_matches() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut live = state(&journal).await;
        let warning = Warning { entry: Some("a".into()), text: "no match".into(), remedy: None };
        for (trigger, warnings, tags, expected) in [
            (Trigger::Start, vec![warning], vec![report_of_tag()], true),
            (Trigger::PushEvent, Vec::new(), vec![report_of_tag()], true),
            (Trigger::Requested, Vec::new(), vec![report_of_tag()], false),
            (Trigger::PushEvent, Vec::new(), Vec::new(), false),
            (Trigger::Requested, Vec::new(), Vec::new(), true),
        ] {
            let now = Utc::now();
            let Begun::Started(id) = journal.begin_run("a", trigger, now).await.unwrap() else { panic!("not started") };
            live.record_run_start("a", trigger, now);
            let run = Some(id.number());
            let report = RunReport { run, warnings, tags, ..RunReport::new("a", now, now, RunOutcome::Succeeded) };
            let (outcome, tags) = (report.journal_outcome(), report.counts());
            journal
                .end_run(id, RunEnd { outcome, tags, bytes: 0, error: None, deferred_until: None }, now)
                .await
                .unwrap();
            live.record_run_end(&report);
            assert_eq!(live.past["a"].never_matched, expected, "{trigger:?}");
        }
        assert!(state(&journal).await.past["a"].never_matched, "a restart keeps a run without any tag");
    }

    fn report_of_tag() -> TagReport {
        let (source, target, tag) = ("h/a".into(), "t/a".into(), Some("v1".parse().unwrap()));
        let (digest, source_digest, outcome, blobs) = (None, None, TagOutcome::Unchanged, BlobCounts::default());
        TagReport { source, target, tag, source_tag: None, digest, source_digest, outcome, blobs, bytes: 0 }
    }

    #[tokio::test]
    async fn timed_out_run_with_progress_causes_no_back_off() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut live = state(&journal).await;
        let summary = |state: &DaemonState| (state.past["a"].failures, state.fruitless_failures("a").0);
        for (outcome, bytes, expected) in [
            (RunOutcome::TimedOut, 0, (1, 1)),
            (RunOutcome::Failed, 7, (2, 2)),
            (RunOutcome::TimedOut, 7, (3, 0)),
            (RunOutcome::TimedOut, 7, (4, 0)),
            (RunOutcome::Failed, 0, (5, 1)),
            (RunOutcome::Succeeded, 0, (0, 0)),
        ] {
            let (trigger, now) = (Trigger::Start, Utc::now());
            let Begun::Started(id) = journal.begin_run("a", trigger, now).await.unwrap() else { panic!("not started") };
            live.record_run_start("a", trigger, now);
            let transfer = Transfer::new("h/a", "t/a", Digest::of(b"blob"), 10);
            transfer.advance(bytes);
            live.apply_event("a".into(), RunEvent::Transfer(Event::TransferStarted(transfer)));
            let report = RunReport { run: Some(id.number()), ..RunReport::new("a", now, now, outcome) };
            let (outcome, tags) = (report.journal_outcome(), TagCounts::default());
            journal.end_run(id, RunEnd { outcome, tags, bytes, error: None, deferred_until: None }, now).await.unwrap();
            live.record_run_end(&report);
            assert_eq!(summary(&live), expected, "{outcome:?}");
            let restarted = summary(&state(&journal).await);
            // The journal does not record which failures followed a run with progress.
            assert!(
                restarted == expected || (expected.1 > 0 && restarted.1 >= expected.1),
                "{outcome:?}: {restarted:?}"
            );
        }
    }
}
