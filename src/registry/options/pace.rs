//! Settings of the pace of a registry. Their meaning is in `profile` and `bandwidth`.

use chrono_tz::Tz;

/// Setting of one figure in `sync.yaml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Figure<T> {
    /// Not set: the profile's figure.
    #[default]
    Unsaid,
    /// No limit, whatever the profile says.
    Lifted,
    /// This figure.
    Set(T),
}

/// Request bucket with its own rate. A request may count in several buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// All requests, including token requests.
    Requests,
    /// GET and HEAD.
    Reads,
    /// Requests that store something, and requests that delete something if there is no figure for those.
    Writes,
    /// Writes that open an upload or mount a blob.
    Uploads,
    /// Deletions of manifests.
    Deletes,
    /// Reads by the referrers API, which count as reads too.
    ReferrerLists,
}

/// Limits that a well-known registry documents, or is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Docker Hub. Its abuse limit is "in the order of thousands of requests per minute" and has no exact figure
    /// (docs.docker.com, "Docker Hub usage and limits"), so none is set. At internet latencies, 16 requests in flight
    /// stay within that limit. Its pull limit is separate.
    DockerHub,
    /// Azure Container Registry, tier Basic: 5,000 reads, 1,000 writes, 500 deletions and 250 referrer lists a minute,
    /// for each identity and replica (learn.microsoft.com, "Azure Container Registry service tiers", since 2026-06-16).
    AcrBasic,
    /// Tier Standard: the figures of Basic, by the same page.
    AcrStandard,
    /// Tier Premium: 10,000 reads, 2,000 writes, 2,000 deletions and 1,000 referrer lists, by the same page.
    AcrPremium,
    /// Amazon: 10 upload starts a second (docs.aws.amazon.com, "Amazon ECR service quotas", `InitiateLayerUpload`, the
    /// lowest default so far). This program never reaches its limits of reads and chunks, which are hundreds a second.
    Ecr,
    /// GitHub. It documents no limits (github/docs issue 24504). Its refusals have stated 2,000 pushes
    /// (chainguard-images/images issue 173) and 44,000 reads a minute (dependabot/cli issue 380).
    Ghcr,
    /// Google's Artifact Registry: 60,000 requests, 18,000 writes and 18,000 deletions a minute, per project and region
    /// (cloud.google.com/artifact-registry/quotas).
    Gar,
    /// quay.io: "a few requests per second", with bursts, per address and endpoint, without an exact figure
    /// (access.redhat.com/solutions/6218921), so the only limit is 8 requests in flight.
    Quay,
}

/// Rates and the times of day at which they apply. Outside all windows there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandwidth(pub(crate) Vec<Window>);

/// A rate and the times at which it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Bytes per second of bodies, in both directions together.
    pub rate: u64,
    /// Hours of the window; `None` is always.
    pub between: Option<Hours>,
    /// Time zone of `between`.
    pub timezone: Tz,
}

/// Interval from one time of day to another, without its end: `08:00-18:00`; over midnight, `22:00-06:00`.
///
/// The times are wall-clock times. An hour that the clock skips in spring is in no window, and an hour that the clock
/// repeats in autumn is in its window twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Start, in minutes of the day.
    pub(crate) from: u32,
    pub(crate) to: u32,
}
