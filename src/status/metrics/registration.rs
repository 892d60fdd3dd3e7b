//! Registration of the metrics: the name, the unit and the help text of each metric.

use chrono::{DateTime, Utc};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::{Metrics, Timestamp, seconds};

impl Metrics {
    /// Registers all metrics of a daemon of this version that started at `started`.
    pub(super) fn register(self, version: &str, started: DateTime<Utc>) -> Self {
        self.register_totals(version, started).register_current_values()
    }

    /// Registers the facts about the program and its configuration, the times of runs, and the metrics of registries.
    fn register_totals(mut self, version: &str, started: DateTime<Utc>) -> Self {
        let start_time = Timestamp::default();
        start_time.set(seconds(started));
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", version.to_owned())]);
        registry.register("build", "The version of this program", build);
        registry.register_with_unit("start_time", "Start time of the daemon", Unit::Seconds, start_time);
        registry.register(
            "configuration_last_reload_successful",
            "1 if the last edit of the configuration was applied",
            self.reload_successful.clone(),
        );
        registry.register_with_unit(
            "configuration_last_reload_success_timestamp",
            "Time at which the configuration in force was read",
            Unit::Seconds,
            self.reload_success_timestamp.clone(),
        );
        registry.register("runs", "Runs of all entries that ended, by outcome", self.runs.clone());
        let help = "Duration of runs of all entries";
        registry.register_with_unit("run_duration", help, Unit::Seconds, self.run_duration.clone());
        registry.register("tags", "Tags processed by runs of all entries, by outcome", self.tags.clone());
        registry.register("entry_runs", "Runs of the entry that ended", self.entry_runs.clone());
        let help = "Total duration of the entry's runs";
        registry.register_with_unit("entry_run_duration", help, Unit::Seconds, self.entry_run_duration.clone());
        let help = "Tags that the entry's runs copied or replaced";
        registry.register("entry_changed_tags", help, self.entry_changed_tags.clone());
        for (name, help, family) in [
            ("entry_last_success_timestamp", "End of the last successful run of the entry", &self.last_success),
            (
                "entry_last_failure_timestamp",
                "End of the last run of the entry that failed or timed out",
                &self.last_failure,
            ),
            ("entry_next_firing_timestamp", "Next scheduled run of the entry", &self.next_firing),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        registry.register("entry_paused", "1 if the entry is paused", self.paused.clone());
        registry.register("registry_requests", "Requests by method and response status", self.requests.clone());
        registry.register_with_unit(
            "registry",
            "Bytes of request and response bodies",
            Unit::Bytes,
            self.bytes.clone(),
        );
        let help = "Total time that requests waited for limits and for Retry-After";
        registry.register_with_unit("registry_throttled", help, Unit::Seconds, self.throttled.clone());
        let help = "Reads of manifests (pulls) that a registry allows in a window";
        registry.register("quota_limit", help, self.quota_limit.clone());
        let help = "Remaining reads of manifests (pulls) in a window, as last reported by the registry";
        registry.register("quota_remaining", help, self.quota_remaining.clone());
        let help = "Remaining reads that are reserved for other clients (limits.reserve_pulls)";
        registry.register("quota_reserved", help, self.quota_reserved.clone());
        self
    }

    /// Registers the current state of the daemon, of its entries, and of the requests to registries.
    fn register_current_values(mut self) -> Self {
        let registry = &mut self.registry;
        let help = "Consecutive failures of the entry, 0 after a successful run";
        registry.register("entry_failures", help, self.entry_failures.clone());
        registry.register("registry_requests_in_flight", "Requests in flight", self.requests_in_flight.clone());
        let help = "Push events by receiver and result";
        registry.register("push_events", help, self.push_events.family.clone());
        registry.register("runs_in_flight", "Runs in progress", self.runs_in_flight.clone());
        let help = "Entries that are due and wait for a slot";
        registry.register("runs_waiting", help, self.runs_waiting.clone());
        registry.register("transfers_in_flight", "Blobs in transfer", self.transfers_in_flight.clone());
        let help = "Size of the journal's file and of its write-ahead log";
        registry.register_with_unit("journal_size", help, Unit::Bytes, self.journal_size.clone());
        registry.register("journal_writable", "1 if the journal is writable", self.journal_writable.clone());
        registry.register("notifications", "Attempts to deliver notifications, by result", self.notifications.clone());
        let help = "Notifications that are not yet delivered";
        registry.register("notifications_pending", help, self.notifications_pending.clone());
        self
    }
}
