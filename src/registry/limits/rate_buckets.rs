//! Rate buckets of one registry, and the pause that the registry requested by `Retry-After`. If no pause is in force,
//! and all buckets that count the request have capacity, the client can send a request.

use std::num::NonZeroU32;

use tokio::time::Instant;

use super::rate::{Limiter, quota_from_rate};
use crate::registry::{Bucket, LimitsInForce, Rate};

/// Class of a request. The class determines the rate buckets that count the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Token request, which counts only in the bucket of all requests.
    Token,
    Read,
    /// Request to the referrers API for a list of referrers.
    ReferrerList,
    Write,
    /// Write that opens an upload.
    Upload,
    /// Deletion of a manifest.
    Delete,
}

impl Class {
    /// Returns the buckets that count a request of this class. In each inner list, only the first bucket with a rate
    /// counts the request.
    fn buckets(self) -> &'static [&'static [Bucket]] {
        use Bucket::{Deletes, Reads, ReferrerLists, Requests, Uploads, Writes};
        match self {
            Self::Token => &[&[Requests]],
            Self::Read => &[&[Requests], &[Reads]],
            // Azure counts the request for a referrer list in both buckets: `ReferrerLists` and `Reads`.
            Self::ReferrerList => &[&[Requests], &[ReferrerLists], &[Reads]],
            Self::Write => &[&[Requests], &[Writes]],
            Self::Upload => &[&[Requests], &[Writes], &[Uploads]],
            Self::Delete => &[&[Requests], &[Deletes, Writes]],
        }
    }
}

/// Rates of one registry, and the end of the pause that the registry requested.
#[derive(Debug)]
pub(crate) struct Buckets {
    limited: [Option<(Rate, Limiter)>; Bucket::ALL.len()],
    paused_until: Option<Instant>,
}

impl Buckets {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        let mut buckets = Self { limited: [const { None }; Bucket::ALL.len()], paused_until: None };
        buckets.set(limits);
        buckets
    }

    /// Changes the rates. If a rate does not change, earlier requests still count in this rate.
    pub(crate) fn set(&mut self, limits: &LimitsInForce) {
        for bucket in Bucket::ALL {
            let limited = &mut self.limited[bucket as usize];
            let wanted = limits.rate(bucket).value;
            if limited.as_ref().map(|(rate, _)| *rate) != wanted {
                *limited = wanted.and_then(|rate| Some((rate, Limiter::new(quota_from_rate(rate)?))));
            }
        }
    }

    /// Returns the rates in force, in the order of [`Bucket::ALL`].
    pub(crate) fn rates(&self) -> Vec<(Bucket, Rate)> {
        let rate = |(bucket, limited): (Bucket, &Option<(Rate, Limiter)>)| Some((bucket, limited.as_ref()?.0));
        Bucket::ALL.into_iter().zip(&self.limited).filter_map(rate).collect()
    }

    /// Blocks all requests until this time.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Returns the end of the current pause. `None` if no pause is in force.
    pub(crate) fn paused(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Counts one request in all its buckets. If a pause is in force or one bucket is full, no bucket counts the
    /// request.
    ///
    /// # Errors
    /// Returns the time at which the caller can try the request again.
    pub(crate) fn take(&self, class: Class, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.paused(now) {
            return Err(until);
        }
        let mut taken = [None; Bucket::ALL.len()];
        for (index, limiter) in self.limiters(class).enumerate() {
            match limiter.take(NonZeroU32::MIN) {
                Ok(before) => taken[index] = Some(before),
                Err(not_before) => {
                    let earlier = self.limiters(class).zip(taken);
                    earlier.for_each(|(limiter, before)| before.into_iter().for_each(|before| limiter.restore(before)));
                    return Err(not_before);
                }
            }
        }
        Ok(())
    }

    fn limiters(&self, class: Class) -> impl Iterator<Item = &Limiter> {
        let limited = |bucket: &Bucket| self.limited[*bucket as usize].as_ref().map(|(_, limiter)| limiter);
        class.buckets().iter().filter_map(move |either| either.iter().find_map(limited))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::{LimitSetting, Limits};

    fn buckets(figures: &[(Bucket, u32)]) -> Buckets {
        let mut limits = Limits::default();
        for (bucket, count) in figures {
            *limits.figure_mut(*bucket) = LimitSetting::Set(Rate { count: *count, per: Duration::from_secs(3600) });
        }
        Buckets::new(&limits.in_force(&"a.example".parse().unwrap(), None))
    }

    /// Returns the number of requests of this class that the buckets admit without a wait.
    fn at_once(buckets: &mut Buckets, class: Class) -> usize {
        (0..100).take_while(|_| buckets.take(class, Instant::now()).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_class_has_its_own_bucket() {
        // Each bucket admits a tenth of its hourly rate without a wait.
        use Bucket::{Deletes, Reads, ReferrerLists, Uploads, Writes};
        let mut all = buckets(&[(Reads, 90), (Writes, 80), (Uploads, 30), (Deletes, 20), (ReferrerLists, 10)]);
        let admitted = [Class::Read, Class::ReferrerList, Class::Upload, Class::Write, Class::Delete, Class::Token]
            .map(|class| at_once(&mut all, class));
        // The bucket of reads refuses the referrer list, because the earlier reads have used up the bucket.
        assert_eq!(admitted, [9, 0, 3, 5, 2, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn referrer_list_counts_in_its_bucket_and_reads() {
        let mut both = buckets(&[(Bucket::Reads, 90), (Bucket::ReferrerLists, 40)]);
        assert_eq!(at_once(&mut both, Class::ReferrerList), 4);
        assert_eq!(at_once(&mut both, Class::Read), 5);
        // If the bucket of reads refuses a referrer list, the request takes nothing from the bucket of referrer lists.
        let mut both = buckets(&[(Bucket::Reads, 10), (Bucket::ReferrerLists, 90)]);
        assert_eq!([Class::Read, Class::ReferrerList].map(|class| at_once(&mut both, class)), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn class_without_a_figure_counts_in_wider_bucket() {
        let mut reads = buckets(&[(Bucket::Reads, 30)]);
        assert_eq!([Class::ReferrerList, Class::Read].map(|class| at_once(&mut reads, class)), [3, 0]);
        let mut writes = buckets(&[(Bucket::Writes, 30)]);
        assert_eq!([Class::Delete, Class::Upload].map(|class| at_once(&mut writes, class)), [3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn request_refused_by_one_bucket_takes_from_none() {
        let mut both = buckets(&[(Bucket::Requests, 40), (Bucket::Writes, 10)]);
        assert_eq!(at_once(&mut both, Class::Write), 1);
        for _ in 0..50 {
            assert!(both.take(Class::Write, Instant::now()).is_err());
        }
        assert_eq!(at_once(&mut both, Class::Read), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn unchanged_rate_keeps_state_when_limits_change() {
        let mut all = buckets(&[(Bucket::Reads, 30), (Bucket::Writes, 30)]);
        assert_eq!([Class::Read, Class::Write].map(|class| at_once(&mut all, class)), [3, 3]);
        let mut limits = Limits::default();
        let hourly = |count| LimitSetting::Set(Rate { count, per: Duration::from_secs(3600) });
        (limits.reads, limits.writes) = (hourly(30), hourly(20));
        all.set(&limits.in_force(&"a.example".parse().unwrap(), None));
        assert_eq!([Class::Read, Class::Write].map(|class| at_once(&mut all, class)), [0, 2]);
        all.set(&Limits::default().in_force(&"a.example".parse().unwrap(), None));
        assert_eq!(at_once(&mut all, Class::Read), 100);
    }
}
