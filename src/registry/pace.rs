//! When the next request or the next bytes of one registry may go: its configured rates, and its own `Retry-After`.

mod buckets;
mod flow;
mod line;
mod rate;

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use buckets::Class;
pub use flow::Throttle;

use super::permits::DEFAULT_CONCURRENT;
use super::turns::Party;
use super::{Limits, LimitsInForce, Registry};
use buckets::Buckets;
use line::Line;

/// The pace of one registry, shared by all its repositories.
#[derive(Debug)]
pub(crate) struct Pace {
    requests: Line<Buckets, { Class::COUNT }>,
    bandwidth: Throttle,
    /// The bandwidth of all registries together.
    total: OnceLock<Arc<Throttle>>,
}

impl Pace {
    pub(crate) fn new(limits: &LimitsInForce) -> Self {
        let requests = Line::new(Buckets::new(limits));
        Self { requests, bandwidth: Throttle::new(limits.bandwidth.clone()), total: OnceLock::new() }
    }

    /// Other limits from now on, for what waits already too.
    fn set(&self, limits: &LimitsInForce) {
        self.requests.change(|buckets| buckets.set(limits));
        self.bandwidth.set(limits.bandwidth.clone());
    }

    /// Waits until one more request may be sent. Returns how long that took. Cancel safe.
    pub(crate) async fn admit(&self, party: Party, class: Class) -> Duration {
        let began = Instant::now();
        if !self.requests.pass(party, class as usize, NonZeroU32::MIN).await {
            return Duration::ZERO;
        }
        // Between being let go and waking up, the registry may have asked for patience.
        while self.is_paused() {
            self.requests.pass(party, class as usize, NonZeroU32::MIN).await;
        }
        began.elapsed()
    }

    /// Lets nothing go for this long.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.requests.change(|buckets| buckets.pause(until));
    }

    /// Whether nothing may go now: to be asked right before a request is sent that was admitted a while ago.
    pub(crate) fn is_paused(&self) -> bool {
        self.requests.look(|buckets| buckets.paused(Instant::now()).is_some())
    }

    /// Waits until this many bytes of a body may pass. Returns how long that took. Cancel safe.
    pub(crate) async fn spend(&self, party: Party, bytes: usize) -> Duration {
        let waited = self.bandwidth.spend(party, bytes).await;
        match self.total.get() {
            Some(total) => waited + total.spend(party, bytes).await,
            None => waited,
        }
    }
}

impl Registry {
    /// Other limits from now on, for what runs already too. What went by a rate that stays is remembered.
    pub fn set_limits(&self, limits: &Limits) {
        let limits = limits.in_force(self.host(), Some(self.kind));
        self.pace.set(&limits);
        self.gate.set(limits.concurrent.value.unwrap_or(DEFAULT_CONCURRENT));
    }

    /// Counts the bytes of this registry among those of others as well. Only the first call does.
    pub fn share_bandwidth(&self, total: Arc<Throttle>) {
        let _ = self.pace.total.set(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Figure, Rate};

    fn pace(limits: &Limits) -> Pace {
        Pace::new(&limits.in_force(&"a.example".parse().unwrap(), None))
    }

    async fn admit(pace: &Pace, class: Class) -> Duration {
        pace.admit(Party::default(), class).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everything_and_a_shorter_one_does_not_end_it() {
        let pace = pace(&Limits::default());
        pace.pause(Duration::from_secs(30));
        pace.pause(Duration::from_secs(1));
        assert!(pace.is_paused());
        assert!(admit(&pace, Class::Read).await >= Duration::from_secs(30));
        assert!(!pace.is_paused());
        assert_eq!(admit(&pace, Class::Token).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_who_waits_for_a_rate_already() {
        let rate = Rate { count: 1, per: Duration::from_secs(10) };
        let pace = Arc::new(pace(&Limits { writes: Figure::Set(rate), ..Limits::default() }));
        admit(&pace, Class::Write).await;
        let waiting = tokio::spawn({
            let pace = pace.clone();
            async move { admit(&pace, Class::Write).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        pace.pause(Duration::from_secs(60));
        assert_eq!(waiting.await.unwrap().as_secs(), 65);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_at_the_registry_and_among_all() {
        use crate::registry::Bandwidth;
        let slow = |rate| Arc::new(Throttle::new(Some(Bandwidth::always(rate))));
        let limits = Limits { bandwidth: Some(Bandwidth::always(4 << 20)), ..Limits::default() };
        let (one, other, total) = (pace(&limits), pace(&Limits::default()), slow(1 << 20));
        one.total.set(total.clone()).unwrap();
        other.total.set(total).unwrap();
        let began = Instant::now();
        futures_util::join!(one.spend(Party::default(), 5 << 20), other.spend(Party::default(), 5 << 20));
        assert!((9..=10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}
