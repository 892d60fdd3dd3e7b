//! quay.io. A Quay on premises is a generic registry, because it has no known limits.

use crate::registry::flavor::definition::HostPattern;
use crate::registry::{Flavor, LimitProfile};

impl Flavor {
    /// quay.io.
    pub const QUAY: &'static Self = &Self {
        name: "quay",
        is_kind: false,
        hosts: &[HostPattern::Name("quay.io")],
        // Quay's token service creates the repository (`endpoints/v2/v2auth.py` in Quay's source).
        creates_repositories_on_request: true,
        limits: Some(LimitProfile::QUAY),
        ..*Self::GENERIC
    };
}

impl LimitProfile {
    /// quay.io: "a few requests per second", with bursts, per address and endpoint, without an exact figure
    /// (access.redhat.com/solutions/6218921), so the only limit is 8 requests in flight.
    pub const QUAY: &'static Self = &Self { name: "quay", rates: &[], concurrent: Some(8) };
}
