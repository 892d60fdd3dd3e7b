//! Docker Hub.

use std::time::Duration;

use crate::registry::flavor::definition::{CredentialKeys, HostPattern};
use crate::registry::{Flavor, LimitProfile};

impl Flavor {
    /// Docker Hub.
    pub const DOCKER_HUB: &'static Self = &Self {
        name: "docker-hub",
        is_kind: false,
        hosts: &[HostPattern::Host("docker.io")],
        api_host: Some("registry-1.docker.io"),
        credential_keys: Some(CredentialKeys {
            written: "https://index.docker.io/v1/",
            hosts: &["index.docker.io", "docker.io", "registry-1.docker.io"],
        }),
        has_catalog: false,
        pull_quota_window: Some(Duration::from_secs(6 * 3600)),
        limits: Some(LimitProfile::DOCKER_HUB),
        ..*Self::GENERIC
    };
}

impl LimitProfile {
    /// Docker Hub. The abuse limit is "in the order of thousands of requests per minute", without an exact figure
    /// (docs.docker.com, "Docker Hub usage and limits"). At internet latencies, 16 requests in flight stay within the
    /// abuse limit. The pull limit is not a part of this profile.
    pub const DOCKER_HUB: &'static Self = &Self { name: "docker-hub", rates: &[], concurrent: Some(16) };
}
