//! Starts of runs. The loop queues a run of an entry:
//! - when a scheduled run is due;
//! - at the end of a pause;
//! - when the deferred tags can be copied;
//! - after push events.
//!
//! A queued run starts when one of the `entries_at_once` slots is free.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::Instrument as _;

use super::loop_state::Service;
use super::run_queue::QueuedRun;
use crate::journal::Trigger;
use crate::schedule::backoff;
use crate::sync::format_instant;
use crate::sync::{RunReport, RunRequest, Stop, TagFilter};

impl Service {
    /// Queues the runs that are due, and starts queued runs in free slots. A scheduled run is skipped if a run of the
    /// whole entry is under way or queued already.
    pub(super) fn start_due(&mut self, now: DateTime<Utc>) {
        self.follow_clock(now);
        for name in self.pauses.expired(now) {
            tracing::info!(entry = name, "pause ended");
            self.end_pause(&name);
        }
        for firing in self.timetable.due(now) {
            let name = firing.entry;
            if self.pauses.has(&name) {
                let scheduled_at = format_instant(firing.scheduled_at);
                tracing::info!(entry = name, scheduled_at, "skipped scheduled run: paused");
                continue;
            }
            if self.is_under_way(&name) {
                tracing::info!(entry = name, "skipped scheduled run: the entry is still running");
                continue;
            }
            if firing.missed {
                let scheduled_at = format_instant(firing.scheduled_at);
                tracing::info!(entry = name, scheduled_at, "starting one run for the missed scheduled runs");
            }
            let trigger = Trigger::Schedule { scheduled_at: firing.scheduled_at };
            self.queue.push(QueuedRun { entry: name, trigger, only: None });
        }
        for name in self.deferred.due(now) {
            if !self.pauses.request_run_at_end(&name) && !self.is_under_way(&name) {
                tracing::info!(entry = name, "resumes with the deferred tags");
                self.queue.push(QueuedRun { entry: name, trigger: Trigger::Continued, only: None });
            }
        }
        for (entry, only) in self.push_debounce.due(tokio::time::Instant::now()) {
            if self.pauses.request_run_at_end(&entry) {
                continue;
            }
            self.queue.push(QueuedRun { entry, trigger: Trigger::PushEvent, only });
        }
        while self.running.len() < self.config.daemon.entries_at_once {
            let Some(due) = self.queue.pop(|entry| !self.running.contains_key(entry)) else { break };
            self.start_run(&due.entry, due.trigger, due.only);
        }
    }

    /// If the clock was set back, adjusts schedules, back-offs and deferred tags to the new time. The end times of
    /// pauses do not change, because a person chose these times.
    pub(super) fn follow_clock(&mut self, now: DateTime<Utc>) {
        let Some(by) = self.setbacks.detect_setback(now) else { return };
        let entries = self.timetable.set_back(now, by);
        self.deferred.set_back(by);
        let seconds = by.num_seconds().unsigned_abs();
        self.state.record_setback(now, seconds);
        tracing::warn!(
            by = %humantime::format_duration(Duration::from_secs(seconds)),
            entries,
            "the clock was set back: these entries follow the new time"
        );
    }

    /// Returns true if a run of the whole entry is under way or queued. A run that is limited to some tags does not
    /// count.
    pub(super) fn is_under_way(&self, name: &str) -> bool {
        self.runs_whole(name) || self.queue.has_whole(name)
    }

    /// Returns true if a run of the whole entry is under way.
    pub(super) fn runs_whole(&self, name: &str) -> bool {
        self.running.contains_key(name) && !self.limited.contains(name)
    }

    /// Starts a run of an entry.
    pub(super) fn start_run(&mut self, name: &str, trigger: Trigger, only: Option<TagFilter>) {
        if only.is_none() {
            self.deferred.remove(name);
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.name.as_str() == name).cloned() else { return };
        let stop = Stop::default();
        if only.is_some() {
            self.limited.insert(name.to_owned());
        }
        let request = RunRequest { entry, entries: self.entries.clone(), trigger, only };
        let (engine, observer, stopping) = (self.engine.clone(), self.observer.clone(), stop.clone());
        let notices = self.notices.clone();
        self.spawn_run(name, stop, trigger, async move {
            let report = engine.run(&request, &observer, &stopping).await;
            let span = tracing::info_span!("run", entry = report.entry, run = report.run);
            notices.report_run_end(&request.entry, &report, request.only.is_none()).instrument(span).await;
            report
        });
    }

    /// Spawns `run` as the task of an entry's run, and records the start of the run.
    pub(super) fn spawn_run(
        &mut self,
        name: &str,
        stop: Stop,
        trigger: Trigger,
        run: impl Future<Output = RunReport> + Send + 'static,
    ) {
        let task = self.runs.spawn(run);
        self.tasks.insert(task.id(), name.to_owned());
        self.running.insert(name.to_owned(), stop);
        self.state.record_run_start(name, trigger, Utc::now());
    }

    /// If runs of an entry fail repeatedly without progress, skips the scheduled runs of the entry until the end of a
    /// back-off. Requested runs and pushes are not delayed.
    pub(super) fn back_off(&mut self, name: &str) {
        let (failures, Some(last)) = self.state.fruitless_failures(name) else { return };
        let wait = backoff(failures);
        // After the clock was set back, the last failure may be in the future.
        let until = last.min(Utc::now()) + wait;
        if wait.is_zero() || until <= Utc::now() {
            return;
        }
        let planned = self.timetable.next_firing(name, Utc::now());
        self.timetable.hold(name, until);
        if planned.is_some_and(|planned| planned <= until) {
            tracing::warn!(
                entry = name,
                failures,
                until = format_instant(until),
                "backed off after repeated failures: scheduled runs are skipped until the end of the back-off; \
                 `transship trigger ENTRY` runs the entry now"
            );
        }
    }
}
