//! Limits of one registry, as its users set and show them: rates, bandwidth, load and pull quota.

use std::sync::Arc;

use super::registry::Registry;
use crate::registry::limits::pull_quota::QuotaState;
use crate::registry::limits::snapshot::{ConcurrencyLoad, Load};
use crate::registry::{Limits, MeterSnapshot, Throttle};

impl Registry {
    /// Returns the counters of all requests to the registry so far, of every identity.
    #[must_use]
    pub fn meter(&self) -> MeterSnapshot {
        self.sender().meter.snapshot()
    }

    /// Returns the current load.
    #[must_use]
    pub fn load(&self) -> Load {
        let sender = self.sender();
        let ConcurrencyLoad { in_flight, limit: concurrent, configured, rates } = sender.limiter.load();
        let (bandwidth, paused_for) = (sender.pace.current_bandwidth(), sender.paused_for());
        Load { in_flight, concurrent, configured, rates, bandwidth, paused_for }
    }

    /// Replaces the limits, also for requests that are waiting. The use of a rate that stays the same is remembered.
    pub fn set_limits(&self, limits: &Limits) {
        self.reserve_pulls(limits.reserve_pulls);
        let limits = limits.in_force(self.host(), Some(self.flavor()));
        self.sender().limiter.set_limits(&limits);
        self.sender().pace.set_limits(&limits);
    }

    /// Counts the bytes of this registry in the total of all registries too. Only the first call has an effect.
    pub fn share_bandwidth(&self, total: Arc<Throttle>) {
        self.sender().pace.share_bandwidth(total);
    }

    /// Returns the latest report of the pull quota, if the registry has sent one.
    #[must_use]
    pub fn quota(&self) -> Option<QuotaState> {
        self.authenticator().quota().state(self.identity())
    }

    /// Restores an earlier report of this registry and identity. The report is in force until the registry's next
    /// report.
    pub fn recall_quota(&self, state: &QuotaState) {
        if state.identity == self.identity() {
            self.authenticator().quota().recall(state);
        }
    }
}
