//! Methods of [`Registry`] that change its limits, or return its counters, its load and its pull quota.

use std::sync::Arc;

use super::registry::Registry;
use crate::registry::limits::pull_quota::QuotaState;
use crate::registry::limits::snapshot::{ConcurrencyLoad, Load};
use crate::registry::{Limits, MeterSnapshot, Throttle};

impl Registry {
    /// Returns the counters of the requests that all identities have sent to the registry.
    #[must_use]
    pub fn meter(&self) -> MeterSnapshot {
        self.sender().meter.snapshot()
    }

    /// Returns the current load: requests in flight, use of the rates, bandwidth, and the remaining pause.
    #[must_use]
    pub fn load(&self) -> Load {
        let sender = self.sender();
        let ConcurrencyLoad { in_flight, limit: concurrent, configured, rates } = sender.limiter.load();
        let (bandwidth, paused_for) = (sender.pace.current_bandwidth(), sender.paused_for());
        Load { in_flight, concurrent, configured, rates, bandwidth, paused_for }
    }

    /// Replaces the limits. The new limits also apply to waiting requests. If a rate does not change, earlier requests
    /// still count in this rate.
    pub fn set_limits(&self, limits: &Limits) {
        self.reserve_pulls(limits.reserve_pulls);
        let limits = limits.in_force(self.host(), Some(self.flavor()));
        self.sender().limiter.set_limits(&limits);
        self.sender().pace.set_limits(&limits);
    }

    /// Adds a second bandwidth limit, `total`, which all registries share. Only the first call has an effect.
    pub fn share_bandwidth(&self, total: Arc<Throttle>) {
        self.sender().pace.share_bandwidth(total);
    }

    /// If the registry has reported a pull quota, returns the latest report.
    #[must_use]
    pub fn quota(&self) -> Option<QuotaState> {
        self.authenticator().quota().state(self.identity())
    }

    /// If the client knows nothing about the pull quota yet, restores an earlier report of the quota. Ignores a report
    /// for a different identity.
    pub fn recall_quota(&self, state: &QuotaState) {
        if state.identity == self.identity() {
            self.authenticator().quota().recall(state);
        }
    }
}
