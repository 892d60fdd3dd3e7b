//! Reload of an edited configuration, which is applied completely or refused completely.

use std::sync::Arc;

use chrono::Utc;

use super::loop_state::{JOURNAL_TIMEOUT, Service, share_entries};
use crate::config::{self, Config, Problems};

impl Service {
    /// Reads the configuration again if a configuration file or a certificate file changed, or if a reload was
    /// requested.
    pub(super) async fn reload_if_changed(&mut self, is_requested: bool) {
        let content = self.read_content();
        if content == self.last_content && !is_requested {
            return;
        }
        self.systemd.reloading();
        match config::load(&self.path, &*self.environment) {
            Ok(config) => {
                self.last_content = content.with_certificates_of(&config);
                self.reconfigure(config).await;
            }
            Err(problems) => {
                self.last_content = content;
                self.refuse_edit(&problems);
                let problems = problems.to_string();
                wait_for_journal(
                    "notices of the refused edit",
                    self.notices.report_refused_edit(&problems, Utc::now()),
                )
                .await;
            }
        }
    }

    /// Refuses an edit: the last valid configuration stays in force.
    pub(super) fn refuse_edit(&mut self, problems: &Problems) {
        tracing::error!(%problems, "the edited configuration is refused; the previous configuration stays in force");
        self.state.record_refused_edit(problems, Utc::now());
        let summary = self.state.status_line();
        self.systemd.reloaded(&summary);
    }

    /// Applies a valid configuration.
    pub(super) async fn reconfigure(&mut self, config: Config) {
        let now = Utc::now();
        for warning in &config.warnings {
            tracing::warn!(entry = warning.entry, "{warning}");
        }
        let difference = config::difference(&self.config, &config);
        let affected: Vec<String> =
            config::affected(&difference, &self.config, &config).into_iter().map(ToString::to_string).collect();
        let at_next_start: Vec<&str> = difference
            .daemon
            .iter()
            .copied()
            .filter(|key| matches!(*key, "journal" | "status" | "control" | "memory" | "push_events.listen"))
            .collect();
        if !at_next_start.is_empty() {
            tracing::warn!(
                keys = at_next_start.join(", "),
                "these settings of the daemon take effect at its next start"
            );
        }
        let endpoints = self.engine.endpoints.reconfigured(&config, &difference.registries);
        self.engine.endpoints = Arc::new(endpoints.within(config.daemon.bandwidth.clone()));
        self.entries = share_entries(&config);
        self.in_force.send_replace(Arc::new(config.clone()));
        self.config = config;
        for (name, stop) in &self.running {
            let resumes = affected.contains(name);
            if resumes || difference.removed.iter().any(|removed| removed.as_str() == name) {
                stop.drain.cancel();
            }
            if resumes {
                tracing::info!(entry = name, "resumes with the new configuration after the current tags");
                self.renewed.insert(name.clone());
            }
        }
        let entries = self.entries.clone();
        self.deferred.retain(|name| entries.iter().any(|entry| entry.name.as_str() == name));
        self.queue.retain(|name| entries.iter().any(|entry| entry.name.as_str() == name));
        self.run_waiters.retain(|name| self.running.contains_key(name) || self.queue.has_whole(name));
        let last = wait_for_journal("missed runs of new entries", self.last_firings()).await.and_then(|last| {
            last.inspect_err(|error| {
                tracing::error!(%error, "cannot query the journal for missed runs of new entries");
            })
            .ok()
        });
        self.set_timetable(&last.unwrap_or_default(), now);
        self.state.apply_configuration(&self.entries, &self.config.hosts(), &self.config.warnings, now);
        self.state.set_push_receivers(self.config.receivers().map(|(name, _)| name.as_str()));
        wait_for_journal("notices of the new configuration", self.notices.report_configuration(&self.config, now))
            .await;
        let (added, removed, changed) = (difference.added.len(), difference.removed.len(), difference.changed.len());
        tracing::info!(added, removed, changed, "the configuration was read again");
        let summary = self.state.status_line();
        self.systemd.reloaded(&summary);
    }
}

/// Waits for `work`, a request to the journal during a reload, but at most `JOURNAL_TIMEOUT`. If the journal does not
/// respond in time, returns `None`, and the new configuration is in force nevertheless. `what` names the request in the
/// log.
async fn wait_for_journal<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    let answer = tokio::time::timeout(JOURNAL_TIMEOUT, work).await;
    answer
        .inspect_err(|_| {
            tracing::error!(
                what,
                "the journal did not respond in time: the daemon continues without \
        its answer"
            )
        })
        .ok()
}
