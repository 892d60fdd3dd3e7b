//! Update of the snapshot, the metrics and the watchdog, at most once per iteration of the loop.

use chrono::Utc;

use super::journal_probe::ProbeResult;
use super::loop_state::Service;

impl Service {
    /// Updates the status now, so that the reply to a command never precedes the change that the command requested.
    pub(super) async fn publish_status(&mut self) {
        self.state.request_publication();
        self.update_status().await;
    }

    /// Updates the state of the journal, the metrics of the registries, the snapshot and the watchdog. If the last
    /// update is less than 100 ms old, and no important change happened since, does nothing.
    pub(super) async fn update_status(&mut self) {
        if !self.state.is_stale() {
            return;
        }
        if let Some(journal) = &self.engine.journal
            && let Some(ProbeResult { writable, bytes, problem }) = self.journal_probe.poll(journal).await
        {
            self.state.record_journal_state(writable, bytes, problem);
        }
        let now = Utc::now();
        self.state.count_registries(&self.engine.endpoints.registries(), &self.engine.endpoints.clients());
        self.state.set_next_runs(|name| {
            let next = [self.timetable.next_firing(name, now), self.deferred.resumes_at(name)];
            next.map(|at| at.filter(|_| !self.pauses.has(name)))
        });
        self.state.set_pauses(|name| self.pauses.get(name).map(|pause| (pause.since, pause.until)));
        self.state.set_waiting(self.queue.iter(), now);
        self.journal_pruning.start_if_due(now, self.config.daemon.keep_history, self.engine.journal.as_ref());
        self.state.publish(now);
        self.systemd.alive(self.state.take_status_change().as_deref());
    }
}
