//! Generic flavour: a registry without features beyond the distribution specification. The other flavours use the
//! values of the generic flavour as defaults.

use crate::registry::Flavor;
use crate::registry::flavor::definition::{FlavorHints, FlavorUploads};

/// Default length of a chunk of an upload, in bytes.
pub(crate) const DEFAULT_CHUNK: usize = 8 * 1024 * 1024;

impl Flavor {
    /// Registry that has none of the other flavours.
    pub const GENERIC: &'static Self = &Self {
        name: "plain",
        is_kind: true,
        hosts: &[],
        api_host: None,
        credential_keys: None,
        uploads: FlavorUploads { in_chunks: false, chunk: DEFAULT_CHUNK, min_chunk: 1, is_known_to_store: false },
        prefers_head: false,
        mount_requirement: None,
        creates_repositories_on_request: false,
        replicas_lag: false,
        tag_list_has_digests: false,
        has_azure_tag_list: false,
        has_catalog: true,
        pull_quota_window: None,
        limits: None,
        hints: FlavorHints {
            denied: None,
            // Harbor requires an existing project.
            missing_repository: "the registry does not create repositories or projects on push: create the \
                repository or project first",
            soft_deletion: None,
        },
    };
}
