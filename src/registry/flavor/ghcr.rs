//! GitHub Container Registry.

use crate::registry::flavor::definition::{FlavorUploads, HostPattern};
use crate::registry::{Bucket, Flavor, LimitProfile, Rate};

impl Flavor {
    /// GitHub Container Registry.
    pub const GHCR: &'static Self = &Self {
        name: "ghcr",
        hosts: &[HostPattern::Name("ghcr.io")],
        // According to reports, the registry answers 416 to a chunk of more than 4 MiB (rust-oci-client issue 35).
        uploads: FlavorUploads { chunk: 4 * 1024 * 1024, is_known_to_store: true, ..Self::GENERIC.uploads },
        limits: Some(LimitProfile::GHCR),
        ..*Self::GENERIC
    };
}

impl LimitProfile {
    /// GitHub Container Registry. GitHub documents no limits (github/docs issue 24504). Error responses of the registry
    /// have stated limits of 2,000 pushes a minute (chainguard-images/images issue 173) and 44,000 reads a minute
    /// (dependabot/cli issue 380).
    pub const GHCR: &'static Self = &Self {
        name: "ghcr",
        rates: &[(Bucket::Reads, Rate::per_minute(44_000)), (Bucket::Writes, Rate::per_minute(2_000))],
        concurrent: None,
    };
}
