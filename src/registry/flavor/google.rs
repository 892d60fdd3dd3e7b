//! Google Container Registry and Artifact Registry.

use crate::registry::flavor::definition::{FlavorUploads, HostPattern};
use crate::registry::{Bucket, Flavor, LimitProfile, Rate};

impl Flavor {
    /// Google Container Registry and Artifact Registry.
    pub const GOOGLE: &'static Self = &Self {
        name: "google",
        hosts: &[HostPattern::Name("gcr.io"), HostPattern::Below("gcr.io"), HostPattern::Below("pkg.dev")],
        // Artifact Registry accepts no chunks.
        uploads: FlavorUploads { is_known_to_store: true, ..Self::GENERIC.uploads },
        tag_list_has_digests: true,
        limits: Some(LimitProfile::GAR),
        ..*Self::GENERIC
    };
}

impl LimitProfile {
    /// Google's Artifact Registry: 60,000 requests, 18,000 writes and 18,000 deletions a minute, per project and region
    /// (cloud.google.com/artifact-registry/quotas).
    pub const GAR: &'static Self = &Self {
        name: "gar",
        rates: &[
            (Bucket::Requests, Rate::per_minute(60_000)),
            (Bucket::Writes, Rate::per_minute(18_000)),
            (Bucket::Deletes, Rate::per_minute(18_000)),
        ],
        concurrent: None,
    };
}
