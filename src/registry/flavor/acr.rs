//! Azure Container Registry.

use crate::registry::flavor::definition::{FlavorHints, FlavorUploads, HostPattern, SoftDeletionHints};
use crate::registry::{Bucket, Flavor, LimitProfile, Rate};
use crate::store::Step;

impl Flavor {
    /// Azure Container Registry.
    pub const ACR: &'static Self = &Self {
        name: "acr",
        hosts: &[HostPattern::Below("azurecr.io"), HostPattern::Below("azurecr.cn"), HostPattern::Below("azurecr.us")],
        // The registry answers 413 to a PUT of more than about 20 MB.
        uploads: FlavorUploads {
            in_chunks: true,
            chunk: 4 * 1024 * 1024,
            is_known_to_store: true,
            ..Self::GENERIC.uploads
        },
        // The registry counts the POST that starts an upload as a write. The rate limit of writes is much lower than
        // the rate limit of reads.
        prefers_head: true,
        // All geo-replicas of a registry share one host name (Azure/acr, issue 588).
        replicas_lag: true,
        has_azure_tag_list: true,
        // The limits depend on the tier of the registry, which the client does not know.
        limits: None,
        hints: FlavorHints {
            denied: Some(required_role),
            // Azure does not document the text of this error ("Enable soft delete policy in Azure Container Registry").
            soft_deletion: Some(SoftDeletionHints {
                stated: "a soft-deleted digest cannot be pushed: restore it (`az acr manifest restore`), or wait until \
                         its retention ends",
                possible: "a soft-deleted digest cannot be pushed: if `az acr manifest list-deleted` shows this \
                           digest, restore it (`az acr manifest restore`)",
            }),
            ..Self::GENERIC.hints
        },
        ..*Self::GENERIC
    };
}

/// Limits of the tiers. The limits apply to each identity at each replica (learn.microsoft.com, "Azure Container
/// Registry service tiers", since 2026-06-16).
impl LimitProfile {
    /// Azure Container Registry, tier Basic.
    pub const ACR_BASIC: &'static Self = &Self {
        name: "acr-basic",
        rates: &[
            (Bucket::Reads, Rate::per_minute(5_000)),
            (Bucket::Writes, Rate::per_minute(1_000)),
            (Bucket::Deletes, Rate::per_minute(500)),
            (Bucket::ReferrerLists, Rate::per_minute(250)),
        ],
        concurrent: None,
    };

    /// Azure Container Registry, tier Standard. The limits are equal to the limits of tier Basic.
    pub const ACR_STANDARD: &'static Self = &Self { name: "acr-standard", ..*Self::ACR_BASIC };

    /// Azure Container Registry, tier Premium.
    pub const ACR_PREMIUM: &'static Self = &Self {
        name: "acr-premium",
        rates: &[
            (Bucket::Reads, Rate::per_minute(10_000)),
            (Bucket::Writes, Rate::per_minute(2_000)),
            (Bucket::Deletes, Rate::per_minute(2_000)),
            (Bucket::ReferrerLists, Rate::per_minute(1_000)),
        ],
        concurrent: None,
    };
}

/// Returns a hint about the role that a step can require. A registry with role assignments by repository (ABAC) ignores
/// `AcrPull`, `AcrPush` and `AcrDelete` ("Azure Container Registry Entra permissions and role assignments overview").
fn required_role(step: Step) -> &'static str {
    match step {
        Step::ListRepositories => {
            "a registry with ABAC ignores AcrPull: its catalog requires the role Container Registry Repository Catalog \
             Lister, which has no conditions"
        }
        Step::BeginUpload | Step::SendBlob | Step::CommitBlob | Step::WriteManifest | Step::LinkReferrers => {
            "a registry with ABAC ignores AcrPush and requires the role Container Registry Repository Writer"
        }
        Step::Delete => {
            "a registry with ABAC ignores AcrDelete and requires the role Container Registry Repository Contributor"
        }
        _ => "a registry with ABAC ignores AcrPull and requires the role Container Registry Repository Reader",
    }
}
