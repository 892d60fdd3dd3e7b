//! Settings of the limits of a registry: figures, request buckets, and bandwidth by the time of day.

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

impl Bucket {
    /// All buckets, in the order in which they are shown.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_listed_in_order_of_their_number() {
        assert!(Bucket::ALL.iter().enumerate().all(|(at, bucket)| *bucket as usize == at));
    }
}
