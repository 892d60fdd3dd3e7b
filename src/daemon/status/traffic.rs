//! Requests and bytes by registry, for the snapshot and the metrics. When a reload replaces a client, the counters of
//! the new client start at zero, but [`Traffic`] keeps the totals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::oci::RegistryHost;
use crate::registry::{Load, MeterSnapshot, Registry, RequestCount};
use crate::status::{Direction, LimitsState, Metrics, RateState, RegistryState};

/// Counts of each registry that the daemon has queried since its start and that the configuration still names.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    registries: BTreeMap<RegistryHost, RegistryTraffic>,
}

/// Totals of one registry since the daemon's start.
#[derive(Debug, Default)]
struct RegistryTraffic {
    /// Counters of the client at the last read.
    before: MeterSnapshot,
    requests: u64,
    bytes_in: u64,
    bytes_out: u64,
    throttled: Duration,
}

impl Traffic {
    /// Counts the requests and bytes of each registry since the last call, and returns the state of each registry.
    /// `registries` contains one client for each host. `clients` contains the clients of all identities.
    pub(crate) fn update(
        &mut self,
        registries: &[Arc<Registry>],
        clients: &[Arc<Registry>],
        metrics: &Metrics,
        now: DateTime<Utc>,
    ) -> Vec<RegistryState> {
        let mut shown: Vec<RegistryState> = Vec::with_capacity(registries.len());
        for registry in registries {
            let counted = self.registries.entry(registry.host().clone()).or_default();
            counted.add_counts(registry, metrics);
            let same_host = clients.iter().filter(|client| client.host() == registry.host());
            let identities: BTreeSet<String> = same_host.map(|client| client.identity()).collect();
            shown.push(counted.to_state(registry, identities.into_iter().collect(), now));
        }
        shown.sort_by(|a, b| a.registry.cmp(&b.registry));
        for state in &shown {
            metrics.set_requests_in_flight(&state.registry, state.in_flight);
        }
        shown
    }

    /// Forgets the registries that the configuration no longer names.
    pub(crate) fn retain_named(&mut self, named: &BTreeSet<RegistryHost>, metrics: &Metrics) {
        self.registries.retain(|host, _| {
            let is_named = named.contains(host);
            if !is_named {
                metrics.remove_registry(host.as_str());
            }
            is_named
        });
    }
}

impl RegistryTraffic {
    fn add_counts(&mut self, registry: &Registry, metrics: &Metrics) {
        let (host, now) = (registry.host().as_str(), registry.meter());
        for count in &now.requests {
            let is_same = |other: &&RequestCount| (other.method, other.status) == (count.method, count.status);
            let counted = self.before.requests.iter().find(is_same).map_or(0, |before| before.count);
            let growth = counter_growth(counted, count.count);
            self.requests += growth;
            metrics.add_requests(host, count.method, count.status, growth);
        }
        let received = counter_growth(self.before.bytes_in, now.bytes_in);
        let sent = counter_growth(self.before.bytes_out, now.bytes_out);
        let throttled = now.throttled.checked_sub(self.before.throttled).unwrap_or(now.throttled);
        metrics.add_bytes(host, Direction::Received, received);
        metrics.add_bytes(host, Direction::Sent, sent);
        metrics.add_throttled_time(host, throttled);
        self.bytes_in += received;
        self.bytes_out += sent;
        self.throttled += throttled;
        self.before = now;
    }

    fn to_state(&self, registry: &Registry, identities: Vec<String>, now: DateTime<Utc>) -> RegistryState {
        let Load { in_flight, concurrent, configured, rates, bandwidth, paused_for } = registry.load();
        let rates = rates.into_iter().map(|(bucket, rate)| RateState {
            of: bucket.name().to_owned(),
            count: rate.count.into(),
            per_seconds: rate.per.as_secs(),
        });
        let limits = LimitsState {
            concurrent: concurrent as u64,
            concurrent_at_most: configured as u64,
            rates: rates.collect(),
            bandwidth,
        };
        let until = |wait: Duration| now.checked_add_signed(TimeDelta::from_std(wait).ok()?);
        RegistryState {
            registry: registry.host().to_string(),
            identities,
            in_flight: in_flight as u64,
            limits,
            paused_until: paused_for.and_then(until),
            throttled_seconds: self.throttled.as_secs_f64(),
            requests: self.requests,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }
}

/// Returns the growth of a counter. If the counter is smaller than before, the counter has restarted from zero.
fn counter_growth(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Options;

    fn registry() -> Arc<Registry> {
        Registry::new("a.example".parse().unwrap(), Options::default()).unwrap()
    }

    #[test]
    fn unnamed_registry_loses_its_metrics() {
        let (mut traffic, metrics) = (Traffic::default(), Metrics::new("0", Utc::now()));
        let registry = registry();
        let one = std::slice::from_ref(&registry);
        let shown = traffic.update(one, one, &metrics, Utc::now());
        assert_eq!(
            (shown[0].registry.as_str(), &shown[0].identities[..]),
            ("a.example", &["anonymous".to_owned()][..])
        );
        metrics.add_requests("a.example", "GET", Some(200), 1);
        assert!(metrics.encode().contains("\"a.example\""));
        traffic.retain_named(&BTreeSet::from([registry.host().clone()]), &metrics);
        assert!(metrics.encode().contains("\"a.example\""));
        traffic.retain_named(&BTreeSet::new(), &metrics);
        assert!(!metrics.encode().contains("\"a.example\""), "{}", metrics.encode());
    }

    #[test]
    fn restarted_counter_adds_its_new_count() {
        assert_eq!((counter_growth(3, 5), counter_growth(5, 2), counter_growth(5, 5)), (2, 2, 0));
    }
}
