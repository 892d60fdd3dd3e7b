//! Reload of an edited configuration, which is applied completely or refused completely.

use std::sync::Arc;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::configuration_content::{Content, certificate_paths};
use super::{Service, WITHIN, shared};
use crate::config::{self, Config, Problems};
use crate::daemon::watch as watcher;

impl Service {
    /// Returns the current content of all files that the configuration is read from, and watches these files from now
    /// on.
    pub(super) fn content(&mut self) -> Content {
        let Some((files, mut paths)) = config::content(&self.path, &*self.environment) else {
            return Content::now(None, &self.config);
        };
        paths.extend(certificate_paths(&self.config));
        if self.watching.as_ref().is_none_or(|(watched, _)| *watched != paths) {
            let watching = CancellationToken::new();
            tokio::spawn(watcher::watch(paths.clone(), self.edits.clone(), watching.clone()));
            self.watching = Some((paths, watching.drop_guard()));
        }
        Content::now(Some(files), &self.config)
    }

    /// Reads the file again if its content or that of a certificate changed, or if a reload was requested.
    pub(super) async fn look_again(&mut self, asked: bool) {
        let content = self.content();
        if content == self.looked_at && !asked {
            return;
        }
        self.systemd.reloading();
        match config::load(&self.path, &*self.environment) {
            Ok(config) => {
                self.looked_at = content.having_read(&config);
                self.reconfigure(config).await;
            }
            Err(problems) => {
                self.looked_at = content;
                self.refuse(&problems);
                let problems = problems.to_string();
                in_time("that the edit is refused", self.notices.refused(&problems, Utc::now())).await;
            }
        }
    }

    /// Refuses an edit: the last good configuration stays in force.
    pub(super) fn refuse(&mut self, problems: &Problems) {
        tracing::error!(%problems, "the edited configuration is refused and the last good one goes on");
        self.state.refused(problems, Utc::now());
        let summary = self.state.summary();
        self.systemd.reloaded(&summary);
    }

    pub(super) async fn reconfigure(&mut self, config: Config) {
        let now = Utc::now();
        for warning in &config.warnings {
            tracing::warn!(entry = warning.entry, "{warning}");
        }
        let difference = config::difference(&self.config, &config);
        let affected: Vec<String> =
            config::affected(&difference, &self.config, &config).into_iter().map(ToString::to_string).collect();
        let later: Vec<&str> = difference
            .daemon
            .iter()
            .copied()
            .filter(|key| matches!(*key, "journal" | "status" | "control" | "memory" | "push_events.listen"))
            .collect();
        if !later.is_empty() {
            tracing::warn!(keys = later.join(", "), "these settings of the daemon change at its next start");
        }
        let endpoints = self.engine.endpoints.reconfigured(&config, &difference.registries);
        self.engine.endpoints = Arc::new(endpoints.within(config.daemon.bandwidth.clone()));
        self.entries = shared(&config);
        self.in_force.send_replace(Arc::new(config.clone()));
        self.config = config;
        for (name, stop) in &self.running {
            let goes_on = affected.contains(name);
            if goes_on || difference.removed.iter().any(|removed| removed.as_str() == name) {
                stop.drain.cancel();
            }
            if goes_on {
                tracing::info!(entry = name, "goes on by the new configuration as soon as its tags under way are done");
                self.renewed.insert(name.clone());
            }
        }
        let entries = self.entries.clone();
        self.deferred.retain(|name| entries.iter().any(|entry| entry.name.as_str() == name));
        self.waiting.retain(|name| entries.iter().any(|entry| entry.name.as_str() == name));
        self.awaited.retain(|name| self.running.contains_key(name) || self.waiting.has_whole(name));
        let last = in_time("what new entries missed", self.last_firings()).await.and_then(|last| {
            last.inspect_err(|error| tracing::error!(%error, "the journal cannot tell what new entries missed")).ok()
        });
        self.set_timetable(&last.unwrap_or_default(), now);
        self.state.loaded(&self.entries, &self.config.hosts(), &self.config.warnings, now);
        self.state.is_told_by(self.config.receivers().map(|(name, _)| name.as_str()));
        in_time("who is told of what", self.notices.configured(&self.config, now)).await;
        let (added, removed, changed) = (difference.added.len(), difference.removed.len(), difference.changed.len());
        tracing::info!(added, removed, changed, "the configuration was read again");
        let summary = self.state.summary();
        self.systemd.reloaded(&summary);
    }
}

/// Waits for the journal's part of an edit, unless that takes too long: the edit is in force even if the journal
/// cannot record it.
async fn in_time<T>(what: &str, asked: impl Future<Output = T>) -> Option<T> {
    let answer = tokio::time::timeout(WITHIN, asked).await;
    answer.inspect_err(|_| tracing::error!(what, "the journal takes too long, and is waited for no more")).ok()
}
