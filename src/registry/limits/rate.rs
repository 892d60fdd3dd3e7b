//! Limiter of one rate, built on governor. A cell is one unit of the rate, such as one request. A caller can need cells
//! from several limiters. If one limiter has too few cells, the caller returns the cells of the other limiters.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::registry::Rate;

/// Limiter of one rate.
#[derive(Debug)]
pub(crate) struct Limiter {
    inner: RateLimiter<NotKeyed, LimiterState, RuntimeClock, NoOpMiddleware<std::time::Instant>>,
    state: LimiterState,
    burst: NonZeroU32,
}

/// Earlier state of a limiter, for [`Limiter::restore`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct EarlierState(u64);

impl Limiter {
    pub(crate) fn new(quota: Quota) -> Self {
        let state = LimiterState::default();
        Self { inner: RateLimiter::new(quota, state.clone(), RuntimeClock), state, burst: quota.burst_size() }
    }

    /// Returns the maximum number of cells that a caller can take at once.
    pub(crate) fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Takes `cells` cells. If `cells` exceeds the burst, takes only the burst. Returns the state before this call.
    ///
    /// # Errors
    /// If too few cells are available, returns the time at which enough cells will be available.
    pub(crate) fn take(&self, cells: NonZeroU32) -> Result<EarlierState, Instant> {
        let before = EarlierState(self.state.0.load(Ordering::Relaxed));
        match self.inner.check_n(cells.min(self.burst)) {
            Ok(Err(not_yet)) => Err(Instant::from_std(not_yet.earliest_possible())),
            Ok(Ok(())) | Err(_) => Ok(before),
        }
    }

    /// Undoes the last call of [`Limiter::take`].
    pub(crate) fn restore(&self, before: EarlierState) {
        self.state.0.store(before.0, Ordering::Relaxed);
    }
}

/// Returns a quota that allows at most `rate.count` requests in any time span of `rate.per`. The burst counts in this
/// maximum, so the steady rate is lower than `rate`.
pub(crate) fn quota_from_rate(rate: Rate) -> Option<Quota> {
    let count = rate.count.max(1);
    let burst = (count / 10).clamp(1, 32);
    let interval = rate.per / (count - burst + 1);
    Some(Quota::with_period(interval)?.allow_burst(NonZeroU32::new(burst)?))
}

/// Clock of the Tokio runtime. Tests can pause and advance this clock.
#[derive(Debug, Clone, Copy)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

/// Time at which the next cell is due; 0 before the first cell. Callers hold a lock while they use a limiter, so the
/// state does not change between a load and a store.
#[derive(Debug, Clone, Default)]
struct LimiterState(Arc<AtomicU64>);

impl StateStore for LimiterState {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let current = self.0.load(Ordering::Relaxed);
        let (outcome, next) = measure((current > 0).then(|| Nanos::from(current)))?;
        self.0.store(next.into(), Ordering::Relaxed);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_window_sees_more_requests_than_the_rate_allows() {
        for (count, seconds) in [(1, 1), (2, 1), (7, 60), (600, 60), (5000, 3600)] {
            let rate = Rate { count, per: Duration::from_secs(seconds) };
            let limiter = Limiter::new(quota_from_rate(rate).unwrap());
            let step = rate.per / 20_000;
            let mut passed = Vec::new();
            for tick in 0..60_000_u32 {
                while limiter.take(NonZeroU32::MIN).is_ok() {
                    passed.push(tick);
                }
                tokio::time::advance(step).await;
            }
            for (at, first) in passed.iter().enumerate() {
                let in_window = passed[at..].iter().take_while(|tick| *tick - first < 20_000).count();
                assert!(in_window <= count as usize, "{in_window} instead of {count} in {seconds} s");
            }
            assert!(passed.len() >= count as usize * 5 / 2, "{} of {count}: needlessly slow", passed.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn restored_cells_can_be_taken_again() {
        let limiter = Limiter::new(Quota::per_hour(NonZeroU32::MIN));
        let before = limiter.take(NonZeroU32::MIN).unwrap();
        assert!(limiter.take(NonZeroU32::MIN).is_err());
        limiter.restore(before);
        limiter.take(NonZeroU32::MIN).unwrap();
        assert!(limiter.take(NonZeroU32::MIN).is_err());
    }
}
