//! Bandwidth of one registry, and re-exports of related types.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) use super::rate_buckets::{Buckets, Class};
pub use super::throttle::Throttle;
pub use crate::registry::options::pace::{Bandwidth, Hours, LimitSetting, Window};

use crate::fair_queue::Tenant;
use crate::registry::LimitsInForce;

/// Bandwidth limits of one registry, which all its repositories share.
#[derive(Debug)]
pub(crate) struct Pace {
    bandwidth: Throttle,
    /// Bandwidth limit of all registries together.
    total: OnceLock<Arc<Throttle>>,
}

impl Pace {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        Self { bandwidth: Throttle::new(limits.bandwidth.clone()), total: OnceLock::new() }
    }

    /// Waits until the limits allow the transfer of this many bytes of a body. Returns the duration of the wait. Cancel
    /// safe.
    pub(crate) async fn spend(&self, tenant: Tenant, bytes: usize) -> Duration {
        let waited = self.bandwidth.spend(tenant, bytes).await;
        match self.total.get() {
            Some(total) => waited + total.spend(tenant, bytes).await,
            None => waited,
        }
    }
}

impl Pace {
    /// Returns the present bandwidth limit of this registry, in bytes per second; `None` is no limit. The limit of all
    /// registries together is not included.
    pub(crate) fn current_bandwidth(&self) -> Option<u64> {
        self.bandwidth.current_rate()
    }

    pub(crate) fn set_limits(&self, limits: &LimitsInForce) {
        self.bandwidth.set(limits.bandwidth.clone());
    }

    /// Adds a second bandwidth limit, `total`, which all registries share. Only the first call has an effect.
    pub(crate) fn share_bandwidth(&self, total: Arc<Throttle>) {
        let _ = self.total.set(total);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::registry::Limits;

    fn pace(limits: &Limits) -> Pace {
        Pace::new(&limits.in_force(&"a.example".parse().unwrap(), None))
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_at_the_registry_and_in_the_total() {
        use crate::registry::Bandwidth;
        let slow = |rate| Arc::new(Throttle::new(Some(Bandwidth::always(rate))));
        let limits = Limits { bandwidth: Some(Bandwidth::always(4 << 20)), ..Limits::default() };
        let (limited, unlimited, total) = (pace(&limits), pace(&Limits::default()), slow(1 << 20));
        limited.total.set(total.clone()).unwrap();
        unlimited.total.set(total).unwrap();
        let began = Instant::now();
        futures_util::join!(limited.spend(Tenant::default(), 5 << 20), unlimited.spend(Tenant::default(), 5 << 20));
        assert!((9..=10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}
