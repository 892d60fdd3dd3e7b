//! Which rates a request counts in, and what may go by all of them and by the registry's own `Retry-After`.

use std::num::NonZeroU32;

use tokio::time::Instant;

use super::rate::{Limiter, quota_of};
use crate::registry::retry::Kind;
use crate::registry::{Bucket, LimitsInForce, Rate};

/// What a request is, as far as rates are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// For a token: it counts among all requests only.
    Token,
    Read,
    /// A read by the referrers API.
    ReferrerList,
    Write,
    /// A write that opens an upload.
    Upload,
    /// Of a manifest.
    Delete,
}

impl Class {
    /// The class of a request.
    pub(crate) fn of(kind: Kind, lists_referrers: bool) -> Self {
        match kind {
            Kind::Read | Kind::StandIn | Kind::Look | Kind::Glance if lists_referrers => Self::ReferrerList,
            Kind::Read | Kind::StandIn | Kind::Look | Kind::Glance => Self::Read,
            Kind::Token => Self::Token,
            Kind::Delete => Self::Delete,
            Kind::OpenUpload | Kind::Mount => Self::Upload,
            Kind::Chunk | Kind::Commit | Kind::Streamed | Kind::WriteManifest | Kind::Farewell => Self::Write,
        }
    }

    /// The buckets that it counts in. Of two that are joined by "or", the first that has a figure.
    fn counts_in(self) -> &'static [&'static [Bucket]] {
        use Bucket::{Deletes, Reads, ReferrerLists, Requests, Uploads, Writes};
        match self {
            Self::Token => &[&[Requests]],
            Self::Read => &[&[Requests], &[Reads]],
            // Azure counts one in both.
            Self::ReferrerList => &[&[Requests], &[ReferrerLists], &[Reads]],
            Self::Write => &[&[Requests], &[Writes]],
            Self::Upload => &[&[Requests], &[Writes], &[Uploads]],
            Self::Delete => &[&[Requests], &[Deletes, Writes]],
        }
    }
}

/// The rates of one registry, and until when it wants to be left alone.
#[derive(Debug)]
pub(crate) struct Buckets {
    held: [Option<(Rate, Limiter)>; Bucket::ALL.len()],
    paused_until: Option<Instant>,
}

impl Buckets {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        let mut buckets = Self { held: [const { None }; Bucket::ALL.len()], paused_until: None };
        buckets.set(limits);
        buckets
    }

    /// Other rates from now on. One that stays remembers what went by it.
    pub(crate) fn set(&mut self, limits: &LimitsInForce) {
        for bucket in Bucket::ALL {
            let held = &mut self.held[bucket as usize];
            let wanted = limits.rate(bucket).value;
            if held.as_ref().map(|(rate, _)| *rate) != wanted {
                *held = wanted.and_then(|rate| Some((rate, Limiter::new(quota_of(rate)?))));
            }
        }
    }

    /// The rates in force, in the order of [`Bucket::ALL`].
    pub(crate) fn rates(&self) -> Vec<(Bucket, Rate)> {
        let rate = |(bucket, held): (Bucket, &Option<(Rate, Limiter)>)| Some((bucket, held.as_ref()?.0));
        Bucket::ALL.into_iter().zip(&self.held).filter_map(rate).collect()
    }

    /// Lets nothing go until then.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Until when nothing may go, if so.
    pub(crate) fn paused(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Counts one request in all its buckets, or in none, and says when there may be room.
    pub(crate) fn take(&self, class: Class, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.paused(now) {
            return Err(until);
        }
        let mut taken = [None; Bucket::ALL.len()];
        for (at, limiter) in self.limiters(class).enumerate() {
            match limiter.take(NonZeroU32::MIN) {
                Ok(before) => taken[at] = Some(before),
                Err(not_before) => {
                    let others = self.limiters(class).zip(taken);
                    others.for_each(|(limiter, before)| before.into_iter().for_each(|before| limiter.put_back(before)));
                    return Err(not_before);
                }
            }
        }
        Ok(())
    }

    fn limiters(&self, class: Class) -> impl Iterator<Item = &Limiter> {
        let held = |bucket: &Bucket| self.held[*bucket as usize].as_ref().map(|(_, limiter)| limiter);
        class.counts_in().iter().filter_map(move |either| either.iter().find_map(held))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::{Figure, Limits};

    fn buckets(figures: &[(Bucket, u32)]) -> Buckets {
        let mut limits = Limits::default();
        for (bucket, count) in figures {
            *limits.figure_mut(*bucket) = Figure::Set(Rate { count: *count, per: Duration::from_secs(3600) });
        }
        Buckets::new(&limits.in_force(&"a.example".parse().unwrap(), None))
    }

    /// How many of these go at once.
    fn at_once(buckets: &mut Buckets, class: Class) -> usize {
        (0..100).take_while(|_| buckets.take(class, Instant::now()).is_ok()).count()
    }

    #[test]
    fn what_a_request_counts_in_follows_from_what_it_is() {
        for (kind, class) in [
            (Kind::Read, Class::Read),
            (Kind::Token, Class::Token),
            (Kind::Delete, Class::Delete),
            (Kind::OpenUpload, Class::Upload),
            (Kind::Chunk, Class::Write),
            (Kind::Commit, Class::Write),
            (Kind::Streamed, Class::Write),
            (Kind::WriteManifest, Class::Write),
            (Kind::Farewell, Class::Write),
        ] {
            assert_eq!(Class::of(kind, false), class, "{kind:?}");
        }
        assert_eq!(Class::of(Kind::Read, true), Class::ReferrerList);
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_request_has_its_own_bucket() {
        // A tenth of an hour's requests goes at once.
        use Bucket::{Deletes, Reads, ReferrerLists, Uploads, Writes};
        let mut all = buckets(&[(Reads, 90), (Writes, 80), (Uploads, 30), (Deletes, 20), (ReferrerLists, 10)]);
        let went = [Class::Read, Class::ReferrerList, Class::Upload, Class::Write, Class::Delete, Class::Token]
            .map(|class| at_once(&mut all, class));
        // The list of referrers finds no room among the reads, which were taken before.
        assert_eq!(went, [9, 0, 3, 5, 2, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_of_referrers_counts_as_such_and_as_a_read() {
        let mut both = buckets(&[(Bucket::Reads, 90), (Bucket::ReferrerLists, 40)]);
        assert_eq!(at_once(&mut both, Class::ReferrerList), 4);
        assert_eq!(at_once(&mut both, Class::Read), 5);
        // One that is refused for lack of a read takes nothing of its own.
        let mut both = buckets(&[(Bucket::Reads, 10), (Bucket::ReferrerLists, 90)]);
        assert_eq!([Class::Read, Class::ReferrerList].map(|class| at_once(&mut both, class)), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_without_a_figure_counts_among_the_wider_one() {
        let mut reads = buckets(&[(Bucket::Reads, 30)]);
        assert_eq!([Class::ReferrerList, Class::Read].map(|class| at_once(&mut reads, class)), [3, 0]);
        let mut writes = buckets(&[(Bucket::Writes, 30)]);
        assert_eq!([Class::Delete, Class::Upload].map(|class| at_once(&mut writes, class)), [3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waits_for_one_bucket_takes_nothing_from_another() {
        let mut both = buckets(&[(Bucket::Requests, 40), (Bucket::Writes, 10)]);
        assert_eq!(at_once(&mut both, Class::Write), 1);
        for _ in 0..50 {
            assert!(both.take(Class::Write, Instant::now()).is_err());
        }
        assert_eq!(at_once(&mut both, Class::Read), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_stays_is_not_begun_anew_by_other_limits() {
        let mut all = buckets(&[(Bucket::Reads, 30), (Bucket::Writes, 30)]);
        assert_eq!([Class::Read, Class::Write].map(|class| at_once(&mut all, class)), [3, 3]);
        let mut limits = Limits::default();
        let hourly = |count| Figure::Set(Rate { count, per: Duration::from_secs(3600) });
        (limits.reads, limits.writes) = (hourly(30), hourly(20));
        all.set(&limits.in_force(&"a.example".parse().unwrap(), None));
        assert_eq!([Class::Read, Class::Write].map(|class| at_once(&mut all, class)), [0, 2]);
        all.set(&Limits::default().in_force(&"a.example".parse().unwrap(), None));
        assert_eq!(at_once(&mut all, Class::Read), 100);
    }
}
