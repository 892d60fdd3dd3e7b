//! quay.io. An on-premises Quay has the generic flavour, because the client knows no limits of an on-premises Quay.

use crate::registry::flavor::definition::HostPattern;
use crate::registry::{Flavor, LimitProfile};

impl Flavor {
    /// quay.io.
    pub const QUAY: &'static Self = &Self {
        name: "quay",
        is_kind: false,
        hosts: &[HostPattern::Name("quay.io")],
        // If the repository does not exist, Quay's token service creates the repository (`endpoints/v2/v2auth.py` in
        // Quay's source).
        creates_repositories_on_request: true,
        limits: Some(LimitProfile::QUAY),
        ..*Self::GENERIC
    };
}

impl LimitProfile {
    /// quay.io allows "a few requests per second" per address and endpoint, with bursts
    /// (access.redhat.com/solutions/6218921). No exact figure is known, so the only limit is 8 requests in flight.
    pub const QUAY: &'static Self = &Self { name: "quay", rates: &[], concurrent: Some(8) };
}
