//! Shutdown of the loop. Runs finish their current tags within the grace period (`daemon.shutdown_grace`). Then the
//! loop cancels the remaining work.

use std::time::Duration;

use tokio::sync::mpsc;

use super::loop_state::{ITERATION, Service};
use crate::sync::RunEvent;

/// Maximum time to wait for cancelled runs, and for the last attempt to deliver notices.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(5);

impl Service {
    /// Waits for the runs to finish their current tags within the grace period, then cancels the remaining work.
    pub(super) async fn drain(mut self, mut events: mpsc::Receiver<(String, RunEvent)>) {
        self.systemd.stopping();
        self.state.mark_stopping();
        self.queue.clear();
        self.update_status().await;
        let grace = self.config.daemon.shutdown_grace;
        tracing::info!(running = self.running.len(), grace = %humantime::format_duration(grace), "ending");
        self.running.values().for_each(|stop| stop.drain.cancel());
        self.wait_for_runs(&mut events, grace).await;
        self.running.values().for_each(|stop| stop.now.cancel());
        self.wait_for_runs(&mut events, LAST_WAIT).await;
    }

    /// Waits for the end of all runs, but at most `longest`.
    pub(super) async fn wait_for_runs(&mut self, events: &mut mpsc::Receiver<(String, RunEvent)>, longest: Duration) {
        let deadline = tokio::time::Instant::now() + longest;
        while !self.runs.is_empty() {
            self.update_status().await;
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = tokio::time::sleep(ITERATION) => {}
                Some((entry, event)) = events.recv() => self.state.apply_event(entry, event),
                Some(ended) = self.runs.join_next() => self.end_run(ended),
            }
        }
    }
}
