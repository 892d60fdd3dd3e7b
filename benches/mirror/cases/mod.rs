//! Cases of the benchmark. A case starts registries, runs tools, and compares the results with expected figures.

mod cold;
mod crowd;
mod fan_out;
mod large;
mod listing;
mod lost;
mod shared;
mod tags;
mod tls;
mod warm;

use std::time::Duration;

use crate::Bench;
use crate::report::Report;

pub(crate) use cold::best_parallel;

type Case = fn(&Bench) -> anyhow::Result<Report>;

/// Round-trip time to a distant registry.
const DISTANT: Duration = Duration::from_millis(40);

/// Cases by name, in the order of execution.
pub(crate) const ALL: [(&str, Case); 15] = [
    ("cold-0ms", cold::near),
    ("cold-40ms", cold::distant),
    ("warm-40ms", warm::warm),
    ("one-changed", tags::one_changed),
    ("bulk-listing", listing::bulk),
    ("big-blob", large::big_blob),
    ("three-targets", fan_out::three),
    ("slow-third", fan_out::slow_third),
    ("slow-third-shared", fan_out::slow_third_shared),
    ("forty-tags", shared::forty_tags),
    ("lost-blobs", lost::lost_blobs),
    ("lost-shared-blobs", lost::lost_shared_blobs),
    ("tls-h1", tls::http1),
    ("tls-h2", tls::http2),
    ("slow-clients", crowd::health_checks),
];

/// Case that `--quick` runs only if `--case` contains the name of the case.
pub(crate) const NOT_QUICK: &str = "slow-third";
