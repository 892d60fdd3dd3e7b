//! What one registry is asked for right now, and under which limits, for whoever shows it. Looks, and changes nothing.

use std::time::Duration;

use super::{Bucket, Rate, Registry};

/// One registry at one moment, whoever asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Requests in flight.
    pub in_flight: usize,
    /// How many may be in flight now: less than `configured` for a while after the registry asked for patience.
    pub concurrent: usize,
    /// How many may be in flight at most.
    pub configured: usize,
    /// The rates in force, in the order of [`Bucket::ALL`]; what has none is not here.
    pub rates: Vec<(Bucket, Rate)>,
    /// Bytes a second that may pass at this time of day; `None` is no limit.
    pub bandwidth: Option<u64>,
    /// For how long nothing may go yet, where the registry asked for that.
    pub paused_for: Option<Duration>,
}

/// What the gate knows of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crowd {
    pub(super) in_flight: usize,
    pub(super) limit: usize,
    pub(super) configured: usize,
    pub(super) rates: Vec<(Bucket, Rate)>,
}

impl Registry {
    /// What it is asked for right now.
    #[must_use]
    pub fn load(&self) -> Load {
        let Crowd { in_flight, limit: concurrent, configured, rates } = self.gate.crowd();
        let (bandwidth, paused_for) = (self.pace.bandwidth_now(), self.gate.paused_for());
        Load { in_flight, concurrent, configured, rates, bandwidth, paused_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Bandwidth, Figure, Limits, Options};

    #[test]
    fn limits_and_a_pause_are_told_as_they_are_in_force() {
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
