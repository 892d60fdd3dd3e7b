//! Current load of one registry and the limits that apply to it, for display. Read-only.

use std::time::Duration;

use crate::registry::{Bucket, Rate, Registry};

/// Load of one registry at one time, over all identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Number of requests in flight.
    pub in_flight: usize,
    /// Current maximum of requests in flight: less than `configured` for a while after the registry asked the client to
    /// slow down.
    pub concurrent: usize,
    /// Configured maximum of requests in flight.
    pub configured: usize,
    /// Rates in force, in the order of [`Bucket::ALL`]; buckets without a rate are absent.
    pub rates: Vec<(Bucket, Rate)>,
    /// Bandwidth at this time of day, in bytes per second; `None` is no limit.
    pub bandwidth: Option<u64>,
    /// Remaining time of a pause that the registry requested.
    pub paused_for: Option<Duration>,
}

/// Part of the load that the concurrency limiter knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConcurrencyLoad {
    pub(crate) in_flight: usize,
    pub(crate) limit: usize,
    pub(crate) configured: usize,
    pub(crate) rates: Vec<(Bucket, Rate)>,
}

impl Registry {
    /// Returns the current load.
    #[must_use]
    pub fn load(&self) -> Load {
        let ConcurrencyLoad { in_flight, limit: concurrent, configured, rates } = self.gate.load();
        let (bandwidth, paused_for) = (self.pace.current_bandwidth(), self.gate.paused_for());
        Load { in_flight, concurrent, configured, rates, bandwidth, paused_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Bandwidth, Figure, Limits, Options};

    #[test]
    fn load_shows_limits_and_a_pause_in_force() {
        let per = Duration::from_secs(60);
        let mut limits =
            Limits { concurrent: Figure::Set(6), bandwidth: Some(Bandwidth::always(4096)), ..Limits::default() };
        *limits.figure_mut(Bucket::Writes) = Figure::Set(Rate { count: 10, per });
        let options = Options { limits: limits.clone(), ..Options::default() };
        let registry = Registry::new("a.example".parse().unwrap(), options).unwrap();
        let expected = Load {
            in_flight: 0,
            concurrent: 6,
            configured: 6,
            rates: vec![(Bucket::Writes, Rate { count: 10, per })],
            bandwidth: Some(4096),
            paused_for: None,
        };
        assert_eq!(registry.load(), expected);

        registry.gate.throttled(0);
        registry.gate.pause(per);
        registry.set_limits(&Limits { bandwidth: None, ..limits });
        let load = registry.load();
        assert_eq!((load.concurrent, load.configured, load.bandwidth), (3, 6, None));
        assert!(load.paused_for.is_some_and(|wait| wait <= per && wait > per / 2), "{load:?}");
        assert_eq!(registry.identity(), "anonymous");
    }
}
