//! Current load of one registry and the limits in force, for display.

use std::time::Duration;

use crate::registry::{Bucket, Rate};

/// Load of one registry at one time. The load includes the requests of all identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Number of requests in flight.
    pub in_flight: usize,
    /// Current maximum of requests in flight. After the registry asks the client to slow down, this maximum is
    /// temporarily less than `configured`.
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
