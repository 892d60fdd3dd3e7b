//! What can be set for the pace of a registry. What it means is in `profile` and `bandwidth`.

use chrono_tz::Tz;

/// What `sync.yaml` says of one figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Figure<T> {
    /// Nothing: as the profile has it.
    #[default]
    Unsaid,
    /// That there is none, whatever the profile has.
    Lifted,
    /// This.
    Set(T),
}

/// What has a rate of its own. A request may count in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// All requests, those for tokens too.
    Requests,
    /// GET and HEAD.
    Reads,
    /// Whatever stores something; what deletes something too, where there is no figure for that.
    Writes,
    /// The writes that open an upload or mount a blob.
    Uploads,
    /// Deletions of manifests.
    Deletes,
    /// Reads by the referrers API, which count as reads too.
    ReferrerLists,
}

/// The limits that a well-known registry states, or is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Docker Hub. Its abuse limit is "in the order of thousands of requests per minute" and has no exact figure
    /// (docs.docker.com, "Docker Hub usage and limits"), so none is set; 16 requests in flight stay within that at the
    /// latencies of the internet. What it counts as pulls is another matter.
    DockerHub,
    /// Azure Container Registry, tier Basic: 5,000 reads, 1,000 writes, 500 deletions and 250 referrer lists a minute, for each
    /// identity and replica (learn.microsoft.com, "Azure Container Registry service tiers", since 2026-06-16).
    AcrBasic,
    /// Tier Standard: the figures of Basic, by the same page.
    AcrStandard,
    /// Tier Premium: 10,000 reads, 2,000 writes, 2,000 deletions and 1,000 referrer lists, by the same page.
    AcrPremium,
    /// Amazon's: 10 uploads begun a second (docs.aws.amazon.com, "Amazon ECR service quotas", `InitiateLayerUpload`, the lowest
    /// that was ever the default). What it allows of reads and chunks, hundreds a second, is never reached here.
    Ecr,
    /// GitHub's. It documents none (github/docs issue 24504); where it refused, it stated 2,000 pushes
    /// (chainguard-images/images issue 173) and 44,000 reads a minute (dependabot/cli issue 380).
    Ghcr,
    /// Google's Artifact Registry: 60,000 requests, 18,000 writes and 18,000 deletions a minute, project and region
    /// (cloud.google.com/artifact-registry/quotas).
    Gar,
    /// quay.io: "a few requests per second", with bursts, for each address and endpoint, without an exact figure
    /// (access.redhat.com/solutions/6218921), so none is set but 8 requests in flight.
    Quay,
}

/// Which rate holds when. Outside of all windows there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandwidth(pub(in crate::registry) Vec<Window>);

/// A rate, and when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Bytes a second of bodies, in both directions together.
    pub rate: u64,
    /// `None` is always.
    pub between: Option<Hours>,
    /// Where `between` is the time of day.
    pub timezone: Tz,
}

/// From one time of day to another, the second of which is not part of it: `08:00-18:00`; over midnight, `22:00-06:00`.
///
/// They are times on the wall. An hour that the clock skips in spring is in no window, and one that it shows twice in autumn
/// is in its window twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// In minutes of the day.
    pub(in crate::registry) from: u32,
    pub(in crate::registry) to: u32,
}
