//! Prometheus metrics of the daemon. The daemon's loop owns and updates them; nothing is global.
//!
//! Names begin with `transship_`, units are seconds and bytes. No label ever contains a tag or a digest: the
//! configuration bounds the number of series. An entry has at most eight series; counts by outcome are sums over all
//! entries.

mod labels;
mod registration;
mod text_format;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::labels::{BytesLabels, DeliveryLabel, EntryLabel, OutcomeLabel, QuotaLabels, RegistryLabel, RequestLabels};
pub use self::labels::{Delivery, Direction};
pub use self::text_format::TextFormat;
use super::{PushEventCounts, Quota};
use crate::journal::{Outcome, TagCounts};

/// Upper bounds of the buckets for run durations, in seconds. The smallest bucket is for runs that find no change, the
/// largest for runs of up to two hours.
const DURATIONS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0];

/// Gauge of a time, in seconds since 1970.
type Timestamp = Gauge<f64, AtomicU64>;

/// Counter of seconds.
type Seconds = Counter<f64, AtomicU64>;

/// Outcomes of runs. Their counters start at zero, so that a query of an increase includes the first run.
const OUTCOMES: [Outcome; 5] =
    [Outcome::Succeeded, Outcome::Failed, Outcome::Deferred, Outcome::Interrupted, Outcome::TimedOut];

/// Facts about an ended run that the metrics record.
#[derive(Debug, Clone, Copy)]
pub struct EndedRun {
    /// The outcome.
    pub outcome: Outcome,
    /// True for a success, false for a failure; `None` for a run that is neither.
    pub success: Option<bool>,
    /// The end of the run.
    pub ended: DateTime<Utc>,
    /// The duration of the run.
    pub duration: Duration,
    /// The number of tags by outcome.
    pub counts: TagCounts,
}

/// Metrics of one daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reload_successful: Gauge,
    reload_success_timestamp: Timestamp,
    runs: Family<OutcomeLabel, Counter>,
    run_duration: Histogram,
    tags: Family<OutcomeLabel, Counter>,
    entry_runs: Family<EntryLabel, Counter>,
    entry_run_duration: Family<EntryLabel, Seconds>,
    entry_changed_tags: Family<EntryLabel, Counter>,
    last_success: Family<EntryLabel, Timestamp>,
    last_failure: Family<EntryLabel, Timestamp>,
    next_firing: Family<EntryLabel, Timestamp>,
    paused: Family<EntryLabel, Gauge>,
    requests: Family<RequestLabels, Counter>,
    bytes: Family<BytesLabels, Counter>,
    throttled: Family<RegistryLabel, Seconds>,
    quota_limit: Family<QuotaLabels, Gauge>,
    quota_remaining: Family<QuotaLabels, Gauge>,
    quota_reserved: Family<QuotaLabels, Gauge>,
    requests_in_flight: Family<RegistryLabel, Gauge>,
    push_events: PushEventCounts,
    runs_in_flight: Gauge,
    runs_waiting: Gauge,
    transfers_in_flight: Gauge,
    entry_failures: Family<EntryLabel, Gauge>,
    journal_size: Gauge,
    journal_writable: Gauge,
    notifications: Family<DeliveryLabel, Counter>,
    notifications_pending: Gauge,
    /// The entries that have series. They are needed to remove the series together with the entry.
    entries: Mutex<BTreeSet<String>>,
    /// The method and status of each series of requests, by registry. They are needed to remove the series together
    /// with the registry.
    requested: Mutex<BTreeMap<String, BTreeSet<(String, String)>>>,
}

impl Metrics {
    /// Creates the metrics of a daemon of this version that started at `started`.
    #[must_use]
    pub fn new(version: &str, started: DateTime<Utc>) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("transship"),
            reload_successful: Gauge::default(),
            reload_success_timestamp: Timestamp::default(),
            runs: Family::default(),
            run_duration: Histogram::new(DURATIONS),
            tags: Family::default(),
            entry_runs: Family::default(),
            entry_run_duration: Family::default(),
            entry_changed_tags: Family::default(),
            last_success: Family::default(),
            last_failure: Family::default(),
            next_firing: Family::default(),
            paused: Family::default(),
            requests: Family::default(),
            bytes: Family::default(),
            throttled: Family::default(),
            quota_limit: Family::default(),
            quota_remaining: Family::default(),
            quota_reserved: Family::default(),
            requests_in_flight: Family::default(),
            push_events: PushEventCounts::default(),
            runs_in_flight: Gauge::default(),
            runs_waiting: Gauge::default(),
            transfers_in_flight: Gauge::default(),
            entry_failures: Family::default(),
            journal_size: Gauge::default(),
            journal_writable: Gauge::default(),
            notifications: Family::default(),
            notifications_pending: Gauge::default(),
            entries: Mutex::default(),
            requested: Mutex::default(),
        };
        for outcome in OUTCOMES {
            metrics.runs.get_or_create(&OutcomeLabel::new(outcome.word())).inc_by(0);
        }
        for (outcome, _) in TagCounts::default().named() {
            metrics.tags.get_or_create(&OutcomeLabel::new(outcome)).inc_by(0);
        }
        metrics.register(version, started)
    }

    /// Records that a valid configuration with these `entries` was applied. Removes the series of all other entries,
    /// and starts the counters of new entries at zero.
    pub fn record_configuration<'a>(&self, at: DateTime<Utc>, entries: impl IntoIterator<Item = &'a str>) {
        self.reload_successful.set(1);
        self.reload_success_timestamp.set(seconds(at));
        let entries: BTreeSet<&str> = entries.into_iter().collect();
        let tracked = std::mem::take(&mut *self.entries.lock());
        for removed in tracked.iter().filter(|tracked| !entries.contains(tracked.as_str())) {
            self.remove_series_of(removed);
        }
        for entry in entries {
            let label = self.track_entry(entry);
            self.entry_runs.get_or_create(&label).inc_by(0);
            self.entry_run_duration.get_or_create(&label).inc_by(0.0);
            self.entry_changed_tags.get_or_create(&label).inc_by(0);
        }
    }

    /// Records that a configuration was rejected.
    pub fn record_rejected_configuration(&self) {
        self.reload_successful.set(0);
    }

    /// Sets the time of the next automatic run of an entry; `None` if no automatic run is planned.
    pub fn set_next_run(&self, entry: &str, at: Option<DateTime<Utc>>) {
        match at {
            Some(at) => {
                self.next_firing.get_or_create(&self.track_entry(entry)).set(seconds(at));
            }
            None => {
                self.next_firing.remove(&EntryLabel { entry: entry.to_owned() });
            }
        }
    }

    /// Sets the pause state of an entry.
    pub fn set_paused(&self, entry: &str, paused: bool) {
        self.paused.get_or_create(&self.track_entry(entry)).set(paused.into());
    }

    /// Sets the ends of the last successful and of the last failed run of an entry, from before the start of this
    /// daemon.
    pub fn set_last_ends(&self, entry: &str, success: Option<DateTime<Utc>>, failure: Option<DateTime<Utc>>) {
        let label = self.track_entry(entry);
        for (family, at) in [(&self.last_success, success), (&self.last_failure, failure)] {
            if let Some(at) = at {
                family.get_or_create(&label).set(seconds(at));
            }
        }
    }

    /// Records an ended run of an entry.
    pub fn record_run(&self, entry: &str, run: &EndedRun) {
        let (label, duration) = (self.track_entry(entry), run.duration.as_secs_f64());
        self.runs.get_or_create(&OutcomeLabel::new(run.outcome.word())).inc();
        self.run_duration.observe(duration);
        self.entry_runs.get_or_create(&label).inc();
        self.entry_run_duration.get_or_create(&label).inc_by(duration);
        self.entry_changed_tags.get_or_create(&label).inc_by(run.counts.changed());
        let last = run.success.map(|success| if success { &self.last_success } else { &self.last_failure });
        if let Some(last) = last {
            last.get_or_create(&label).set(seconds(run.ended));
        }
        for (outcome, count) in run.counts.named() {
            self.tags.get_or_create(&OutcomeLabel::new(outcome)).inc_by(count);
        }
    }

    /// Adds `count` requests to a registry with this method and response status; `None` if there was no response.
    pub fn add_requests(&self, registry: &str, method: &str, status: Option<u16>, count: u64) {
        let status = status.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let (registry, method) = (registry.to_owned(), method.to_owned());
        let mut requested = self.requested.lock();
        requested.entry(registry.clone()).or_default().insert((method.clone(), status.clone()));
        drop(requested);
        self.requests.get_or_create(&RequestLabels { registry, method, status }).inc_by(count);
    }

    /// Sets the number of requests to a registry in flight.
    pub fn set_requests_in_flight(&self, registry: &str, requests: u64) {
        let label = RegistryLabel { registry: registry.to_owned() };
        self.requests_in_flight.get_or_create(&label).set(gauge(requests));
    }

    /// Removes the series of a registry that is no longer in the configuration.
    pub fn remove_registry(&self, registry: &str) {
        let requested = self.requested.lock().remove(registry);
        let registry = registry.to_owned();
        for (method, status) in requested.unwrap_or_default() {
            self.requests.remove(&RequestLabels { registry: registry.clone(), method, status });
        }
        for direction in [Direction::Received, Direction::Sent] {
            self.bytes.remove(&BytesLabels { registry: registry.clone(), direction });
        }
        let label = RegistryLabel { registry };
        self.throttled.remove(&label);
        self.requests_in_flight.remove(&label);
    }

    /// Adds the time that requests to a registry waited for limits and for `Retry-After`.
    pub fn add_throttled_time(&self, registry: &str, waited: Duration) {
        let label = RegistryLabel { registry: registry.to_owned() };
        self.throttled.get_or_create(&label).inc_by(waited.as_secs_f64());
    }

    /// Adds bytes of bodies received from or sent to a registry.
    pub fn add_bytes(&self, registry: &str, direction: Direction, bytes: u64) {
        self.bytes.get_or_create(&BytesLabels { registry: registry.to_owned(), direction }).inc_by(bytes);
    }

    /// Sets the last reported quotas of registries that count reads of manifests. `before` contains the quotas of the
    /// last call: the series of quotas that are no longer in `quotas` are removed.
    pub fn set_quotas(&self, quotas: &[Quota], before: &[Quota]) {
        for old in before {
            if !quotas.iter().any(|quota| (&quota.registry, &quota.identity) == (&old.registry, &old.identity)) {
                let label = QuotaLabels { registry: old.registry.clone(), identity: old.identity.clone() };
                self.quota_limit.remove(&label);
                self.quota_remaining.remove(&label);
                self.quota_reserved.remove(&label);
            }
        }
        for quota in quotas {
            let label = QuotaLabels { registry: quota.registry.clone(), identity: quota.identity.clone() };
            self.quota_limit.get_or_create(&label).set(gauge(quota.limit));
            self.quota_remaining.get_or_create(&label).set(gauge(quota.remaining));
            self.quota_reserved.get_or_create(&label).set(gauge(quota.reserved));
        }
    }

    /// Sets the numbers of runs and transfers in progress, and of entries that wait for a slot.
    pub fn set_in_flight(&self, runs: usize, waiting: usize, transfers: usize) {
        self.runs_in_flight.set(gauge(runs as u64));
        self.runs_waiting.set(gauge(waiting as u64));
        self.transfers_in_flight.set(gauge(transfers as u64));
    }

    /// Sets the number of consecutive failed runs of an entry.
    pub fn set_consecutive_failures(&self, entry: &str, failures: u32) {
        self.entry_failures.get_or_create(&self.track_entry(entry)).set(failures.into());
    }

    /// Sets the size of the journal in bytes, if the size is known, and whether the journal is writable.
    pub fn set_journal_state(&self, bytes: Option<u64>, writable: bool) {
        if let Some(bytes) = bytes {
            self.journal_size.set(gauge(bytes));
        }
        self.journal_writable.set(writable.into());
    }

    /// Returns the counters of push events.
    #[must_use]
    pub fn push_events(&self) -> &PushEventCounts {
        &self.push_events
    }

    /// Adds `count` attempts to deliver a notification with this result.
    pub fn add_notifications(&self, result: Delivery, count: u64) {
        self.notifications.get_or_create(&DeliveryLabel { result }).inc_by(count);
    }

    /// Sets the number of notifications that are not delivered yet.
    pub fn set_pending_notifications(&self, count: u64) {
        self.notifications_pending.set(gauge(count));
    }

    /// Returns all metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            // Writing to a String does not fail, so the error is a label that cannot be encoded: a bug of transship.
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }

    /// Returns all metrics in this format.
    #[must_use]
    pub fn encode_as(&self, format: TextFormat) -> String {
        match format {
            TextFormat::Prometheus => text_format::convert_to_prometheus(&self.encode()),
            TextFormat::OpenMetrics => self.encode(),
        }
    }

    /// Remembers that an entry has series, and returns its label.
    fn track_entry(&self, entry: &str) -> EntryLabel {
        self.entries.lock().insert(entry.to_owned());
        EntryLabel { entry: entry.to_owned() }
    }

    fn remove_series_of(&self, entry: &str) {
        let label = EntryLabel { entry: entry.to_owned() };
        self.entry_runs.remove(&label);
        self.entry_run_duration.remove(&label);
        self.entry_changed_tags.remove(&label);
        self.entry_failures.remove(&label);
        self.paused.remove(&label);
        for family in [&self.last_success, &self.last_failure, &self.next_firing] {
            family.remove(&label);
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Returns the seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "the milliseconds of a date fit in 53 bits")]
fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::PushEventResult;
    use super::super::snapshot::tests::second;
    use super::*;

    fn with_one_run() -> Metrics {
        let metrics = Metrics::new("1.2.3", second(0));
        metrics.record_configuration(second(1), ["api", "team"]);
        metrics.set_next_run("api", Some(second(600)));
        let counts = TagCounts { copied: 2, unchanged: 5, ..TagCounts::default() };
        let duration = Duration::from_millis(700);
        metrics.record_run(
            "api",
            &EndedRun { outcome: Outcome::Succeeded, success: Some(true), ended: second(10), duration, counts },
        );
        metrics
    }

    #[test]
    fn quota_no_longer_reported_has_no_series() {
        let metrics = Metrics::new("0", second(0));
        let quotas = super::super::snapshot::tests::working().quotas;
        metrics.set_quotas(&quotas, &[]);
        metrics.set_quotas(&[], &quotas);
        assert!(!metrics.encode().contains("mirror-bot"));
    }

    /// Returns metrics with at least one series of each metric.
    pub(crate) fn with_all() -> Metrics {
        let metrics = with_one_run();
        let (duration, counts) = (Duration::from_secs(2), TagCounts::default());
        metrics.record_run(
            "api",
            &EndedRun { outcome: Outcome::Failed, success: Some(false), ended: second(20), duration, counts },
        );
        metrics.add_requests("docker.io", "GET", Some(429), 2);
        metrics.add_requests("docker.io", "HEAD", None, 1);
        metrics.add_throttled_time("docker.io", Duration::from_millis(1500));
        metrics.add_bytes("docker.io", Direction::Received, 17);
        metrics.set_requests_in_flight("docker.io", 4);
        metrics.set_in_flight(1, 2, 3);
        metrics.set_consecutive_failures("api", 1);
        metrics.set_journal_state(Some(65_536), true);
        metrics.set_paused("api", true);
        metrics.push_events().follow(["hub"]);
        metrics.push_events().count("hub", PushEventResult::Matched, 2);
        metrics.add_notifications(Delivery::Delivered, 1);
        metrics.set_pending_notifications(1);
        let quotas = super::super::snapshot::tests::working().quotas;
        metrics.set_quotas(&quotas, &[]);
        metrics
    }

    #[test]
    fn metrics_have_stable_names_and_base_units() {
        let metrics = with_all();
        let text = metrics.encode();
        for line in [
            r#"transship_quota_remaining{registry="docker.io",identity="mirror-bot"} 76"#,
            r#"transship_quota_reserved{registry="docker.io",identity="mirror-bot"} 20"#,
            r#"transship_quota_limit{registry="docker.io",identity="mirror-bot"} 200"#,
            r#"transship_build_info{version="1.2.3"} 1"#,
            "transship_start_time_seconds 1800000000.0",
            "transship_configuration_last_reload_successful 1",
            "transship_configuration_last_reload_success_timestamp_seconds 1800000001.0",
            r#"transship_runs_total{outcome="succeeded"} 1"#,
            r#"transship_runs_total{outcome="failed"} 1"#,
            r#"transship_runs_total{outcome="timed_out"} 0"#,
            r#"transship_run_duration_seconds_bucket{le="1.0"} 1"#,
            "transship_run_duration_seconds_count 2",
            r#"transship_tags_total{outcome="copied"} 2"#,
            r#"transship_tags_total{outcome="failed"} 0"#,
            r#"transship_entry_runs_total{entry="api"} 2"#,
            r#"transship_entry_runs_total{entry="team"} 0"#,
            r#"transship_entry_run_duration_seconds_total{entry="api"} 2.7"#,
            r#"transship_entry_changed_tags_total{entry="api"} 2"#,
            r#"transship_entry_last_success_timestamp_seconds{entry="api"} 1800000010.0"#,
            r#"transship_entry_last_failure_timestamp_seconds{entry="api"} 1800000020.0"#,
            r#"transship_entry_next_firing_timestamp_seconds{entry="api"} 1800000600.0"#,
            r#"transship_registry_requests_total{registry="docker.io",method="GET",status="429"} 2"#,
            r#"transship_registry_requests_total{registry="docker.io",method="HEAD",status="none"} 1"#,
            r#"transship_registry_throttled_seconds_total{registry="docker.io"} 1.5"#,
            r#"transship_registry_bytes_total{registry="docker.io",direction="received"} 17"#,
            r#"transship_registry_requests_in_flight{registry="docker.io"} 4"#,
            r#"transship_entry_failures{entry="api"} 1"#,
            "transship_journal_size_bytes 65536",
            "transship_journal_writable 1",
            "transship_runs_waiting 2",
            "transship_runs_in_flight 1",
            "transship_transfers_in_flight 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn removed_entry_loses_its_series() {
        let metrics = with_one_run();
        metrics.record_configuration(second(30), ["team"]);
        let text = metrics.encode();
        assert!(!text.contains("\"api\"") && text.contains("\"team\""), "{text}");
    }

    #[test]
    fn removed_receiver_of_push_events_loses_its_series() {
        let metrics = with_all();
        let series = |text: &str| text.matches("transship_push_events_total{").count();
        metrics.push_events().follow(["hub", "build"]);
        let text = metrics.encode();
        assert_eq!(series(&text), 10, "{text}");
        assert!(text.contains("transship_push_events_total{receiver=\"hub\",result=\"matched\"} 2\n"), "{text}");
        assert!(text.contains("transship_push_events_total{receiver=\"build\",result=\"unauthorized\"} 0\n"), "{text}");
        metrics.push_events().follow(["build"]);
        metrics.push_events().count("hub", PushEventResult::Matched, 1);
        let text = metrics.encode();
        assert!(series(&text) == 5 && !text.contains("\"hub\""), "{text}");
    }

    #[test]
    fn ends_before_the_start_are_exported() {
        let metrics = Metrics::new("1.2.3", second(0));
        metrics.record_configuration(second(1), ["api", "team"]);
        metrics.set_last_ends("api", Some(second(-20)), Some(second(-10)));
        metrics.set_last_ends("team", None, None);
        let text = metrics.encode();
        assert!(text.contains("last_success_timestamp_seconds{entry=\"api\"} 1799999980.0\n"), "{text}");
        assert!(text.contains("last_failure_timestamp_seconds{entry=\"api\"} 1799999990.0\n"), "{text}");
        assert!(!text.contains("timestamp_seconds{entry=\"team\"}"), "{text}");
    }

    #[test]
    fn three_hundred_entries_have_eight_series_each() {
        let metrics = Metrics::new("1.2.3", second(0));
        let names: Vec<String> = (0..300).map(|number| format!("entry-{number}")).collect();
        metrics.record_configuration(second(1), names.iter().map(String::as_str));
        let duration = Duration::from_secs(1);
        for entry in &names {
            metrics.set_next_run(entry, Some(second(600)));
            metrics.set_paused(entry, false);
            metrics.set_consecutive_failures(entry, 0);
            for (outcome, success) in OUTCOMES.map(|outcome| (outcome, Some(outcome == Outcome::Succeeded))).into_iter()
            {
                let counts = TagCounts { copied: 1, failed: 1, held: 1, conflict: 1, ..TagCounts::default() };
                metrics.record_run(entry, &EndedRun { outcome, success, ended: second(10), duration, counts });
            }
        }
        for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
            let text = metrics.encode_as(format);
            assert_eq!(text.lines().filter(|line| line.contains("entry=\"entry-7\"")).count(), 8, "{text}");
            let lines = text.lines().count();
            assert!((2_400..2_550).contains(&lines), "{format:?}: {lines} lines");
        }
    }

    #[test]
    fn rejected_edit_is_exported_and_keeps_last_reload_time() {
        let metrics = with_one_run();
        metrics.record_rejected_configuration();
        let text = metrics.encode();
        assert!(text.contains("transship_configuration_last_reload_successful 0\n"), "{text}");
        assert!(text.contains("transship_configuration_last_reload_success_timestamp_seconds 1800000001.0\n"));
    }
}
