//! Limits of requests to one registry: concurrency, rates, bandwidth and pull quotas.

pub(super) mod concurrency;
pub(super) mod counters;
pub(super) mod in_force;
pub(super) mod pace;
pub(super) mod pull_quota;
mod rate;
mod rate_buckets;
pub(super) mod rate_limit_log;
pub(super) mod snapshot;
mod throttle;
