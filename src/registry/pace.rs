//! When the next request or the next bytes of one registry may go: its configured rates, and its own `Retry-After`.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use super::{Limits, Rate};

/// The cell of the bandwidth limiter. Single bytes round badly at high rates.
const CELL: u64 = 1024;

/// The most cells taken at once, so that many streams share evenly.
const SLICE: u32 = 64;

/// The pace of one registry, shared by all its repositories.
#[derive(Debug)]
pub(crate) struct Pace {
    requests: Option<DefaultDirectRateLimiter>,
    bandwidth: Option<Bandwidth>,
    paused_until: Mutex<Option<Instant>>,
    clock: DefaultClock,
}

#[derive(Debug)]
struct Bandwidth {
    cells: DefaultDirectRateLimiter,
    slice: u32,
    /// Bytes that passed and do not fill a cell yet. Its lock is the queue: first come, first served, or one that asks
    /// for much would starve.
    remainder: tokio::sync::Mutex<u64>,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        let clock = DefaultClock::default();
        Self {
            requests: limits.requests.and_then(quota_of).map(RateLimiter::direct),
            bandwidth: limits.bandwidth.map(Bandwidth::new),
            paused_until: Mutex::new(None),
            clock,
        }
    }

    /// Waits until one more request may be sent. Returns how long that took. Cancel safe.
    pub(crate) async fn admit(&self) -> Duration {
        let began = Instant::now();
        loop {
            self.outlast_pause().await;
            let Some(requests) = &self.requests else { break };
            match requests.check() {
                Ok(()) => break,
                Err(not_yet) => tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await,
            }
        }
        began.elapsed()
    }

    /// Lets nothing go for this long.
    pub(crate) fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = (*paused).max(Some(until));
    }

    async fn outlast_pause(&self) {
        loop {
            let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Waits until this many bytes of a body may pass. Returns how long that took. Cancel safe.
    pub(crate) async fn spend(&self, bytes: usize) -> Duration {
        let Some(bandwidth) = &self.bandwidth else { return Duration::ZERO };
        let began = Instant::now();
        let mut remainder = bandwidth.remainder.lock().await;
        let bytes = *remainder + bytes as u64;
        let mut cells = bytes / CELL;
        while let Some(slice) = NonZeroU32::new(u32::try_from(cells).unwrap_or(u32::MAX).min(bandwidth.slice)) {
            match bandwidth.cells.check_n(slice) {
                Ok(Ok(())) => cells -= u64::from(slice.get()),
                Ok(Err(not_yet)) => tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await,
                // A slice never exceeds the burst; were it so, waiting would not help.
                Err(_) => break,
            }
        }
        *remainder = bytes % CELL;
        began.elapsed()
    }
}

impl Bandwidth {
    fn new(bytes_per_second: u64) -> Self {
        let cells = u32::try_from(bytes_per_second.div_ceil(CELL)).unwrap_or(u32::MAX);
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        // A tenth of a second at once at most, so that the rate also holds over short times.
        let burst = NonZeroU32::new(cells.get() / 10).unwrap_or(NonZeroU32::MIN).max(NonZeroU32::MIN);
        let quota = Quota::per_second(cells).allow_burst(burst);
        Self { cells: RateLimiter::direct(quota), slice: SLICE.min(burst.get()), remainder: tokio::sync::Mutex::new(0) }
    }
}

/// A quota under which no window of `rate.per`, wherever it begins, sees more than `rate.count` requests: what may
/// come at once is taken off what comes steadily.
fn quota_of(rate: Rate) -> Option<Quota> {
    let count = rate.count.max(1);
    let burst = (count / 10).clamp(1, 32);
    let interval = rate.per / (count - burst + 1);
    Some(Quota::with_period(interval)?.allow_burst(NonZeroU32::new(burst)?))
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn no_window_sees_more_requests_than_the_rate_allows() {
        for (count, seconds) in [(1, 1), (2, 1), (7, 60), (600, 60), (5000, 3600)] {
            let rate = Rate { count, per: Duration::from_secs(seconds) };
            let clock = FakeRelativeClock::default();
            let limiter = RateLimiter::direct_with_clock(quota_of(rate).unwrap(), clock.clone());
            let step = rate.per / 20_000;
            let mut passed = Vec::new();
            for tick in 0..60_000_u32 {
                while limiter.check().is_ok() {
                    passed.push(tick);
                }
                clock.advance(step);
            }
            for (at, first) in passed.iter().enumerate() {
                let in_window = passed[at..].iter().take_while(|tick| *tick - first < 20_000).count();
                assert!(in_window <= count as usize, "{in_window} instead of {count} in {seconds} s");
            }
            assert!(passed.len() >= count as usize * 5 / 2, "{} of {count}: needlessly slow", passed.len());
        }
    }

    #[tokio::test]
    async fn bytes_pass_at_the_rate_and_small_pieces_are_not_lost() {
        let pace = Pace::new(&Limits { bandwidth: Some(1024 * 1024), ..Limits::default() });
        let began = Instant::now();
        for _ in 0..512 {
            pace.spend(700).await;
        }
        let least = Duration::from_millis(512 * 700 * 1000 / (1024 * 1024) - 101);
        assert!(began.elapsed() >= least, "{:?} instead of {least:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everything_and_a_shorter_one_does_not_end_it() {
        let pace = Pace::new(&Limits::default());
        pace.pause(Duration::from_secs(30));
        pace.pause(Duration::from_secs(1));
        assert!(pace.admit().await >= Duration::from_secs(30));
        assert_eq!(pace.admit().await, Duration::ZERO);
    }
}
