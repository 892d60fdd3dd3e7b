//! Amazon Elastic Container Registry (ECR), private registries.

use crate::registry::flavor::definition::{FlavorHints, FlavorUploads, HostPattern};
use crate::registry::{Bucket, Flavor, LimitProfile, Rate};

/// Domains of Amazon's services that support only IPv4.
pub(crate) const AWS_DOMAINS: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "amazonaws.eu"];

/// Domain of Amazon's services that support IPv4 and IPv6.
const DUAL_STACK_DOMAIN: &str = "on.aws";

impl Flavor {
    /// Amazon Elastic Container Registry.
    pub const ECR: &'static Self = &Self {
        name: "ecr",
        // Hosts of private registries, including VPC endpoints. Other hosts below these domains can belong to any
        // customer of Amazon. The list does not contain `public.ecr.aws`, because the flavour affects only writes, and
        // most users of `public.ecr.aws` only read.
        hosts: &[
            HostPattern::Part { part: ".dkr.ecr.", domains: &AWS_DOMAINS },
            HostPattern::Part { part: ".dkr.ecr-fips.", domains: &AWS_DOMAINS },
            HostPattern::Part { part: ".dkr-ecr.", domains: &[DUAL_STACK_DOMAIN] },
            HostPattern::Part { part: ".dkr-ecr-fips.", domains: &[DUAL_STACK_DOMAIN] },
        ],
        uploads: FlavorUploads {
            in_chunks: true,
            // The registry refuses shorter chunks, because each chunk becomes a part of an S3 upload.
            min_chunk: 5 * 1024 * 1024,
            is_known_to_store: true,
            ..Self::GENERIC.uploads
        },
        // The registry allows only a few upload starts a second, and mounts only blobs to which a manifest refers.
        prefers_head: true,
        mount_requirement: Some(
            "no blob was mounted: Amazon ECR mounts a blob only if the account setting BLOB_MOUNTING is ENABLED and \
                an image refers to the blob; transship uploads the blobs",
        ),
        // The start of an upload creates the repository if a repository creation template with CREATE_ON_PUSH matches
        // the repository's name.
        creates_repositories_on_request: true,
        limits: Some(LimitProfile::ECR),
        hints: FlavorHints {
            missing_repository: "a push creates the repository only if a repository creation template with \
                CREATE_ON_PUSH matches its name: create a template, or create the repository first",
            ..Self::GENERIC.hints
        },
        ..*Self::GENERIC
    };
}

impl LimitProfile {
    /// Amazon ECR: 10 upload starts a second (docs.aws.amazon.com, "Amazon ECR service quotas", `InitiateLayerUpload`).
    /// The limits of reads and chunks are hundreds of requests a second. This program never sends so many reads and
    /// chunks.
    pub const ECR: &'static Self =
        &Self { name: "ecr", rates: &[(Bucket::Uploads, Rate::per_second(10))], concurrent: None };
}
