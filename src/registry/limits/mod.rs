//! Limits of requests to one registry: concurrency, rates, bandwidth and pull quotas, and the queues that share them.

pub(super) mod concurrency;
pub(super) mod counters;
pub(super) mod fair_queue;
pub(super) mod in_force;
pub(super) mod pace;
pub(super) mod pull_quota;
mod rate;
mod rate_buckets;
pub(super) mod snapshot;
mod throttle;
mod wait_queue;
