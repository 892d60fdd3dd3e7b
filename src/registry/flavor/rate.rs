//! Rates of requests, and the request buckets to which the rates apply.

use std::fmt;
use std::time::Duration;

/// Group of requests with a common rate limit. A request can count in several buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// All requests, including token requests.
    Requests,
    /// GET and HEAD.
    Reads,
    /// Requests that store content. If [`Self::Deletes`] has no rate, deletions of manifests count in this bucket.
    Writes,
    /// Writes that open an upload or mount a blob.
    Uploads,
    /// Deletions of manifests.
    Deletes,
    /// Reads by the referrers API. These reads also count in [`Self::Reads`].
    ReferrerLists,
}

impl Bucket {
    /// All buckets, in the order of the variants.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Reads, Self::Writes, Self::Uploads, Self::Deletes, Self::ReferrerLists];

    /// Returns the bucket's key in `sync.yaml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Uploads => "uploads",
            Self::Deletes => "deletes",
            Self::ReferrerLists => "referrer_lists",
        }
    }
}

/// Rate: a number of requests per unit of time (`600/min`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests; at least 1.
    pub count: u32,
    /// Unit of time: a second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    pub(crate) const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    pub(crate) const fn per_minute(count: u32) -> Self {
        Self { count, per: Duration::from_secs(60) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/min", self.count),
            3600 => write!(f, "{}/h", self.count),
            _ => write!(f, "{} in {}", self.count, humantime::format_duration(self.per)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_listed_in_order_of_their_number() {
        assert!(Bucket::ALL.iter().enumerate().all(|(at, bucket)| *bucket as usize == at));
    }
}
