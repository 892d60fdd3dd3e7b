//! Bandwidth throttle: limits the transferred bytes per second to the rate in force.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::Quota;
use tokio::time::Instant;

use super::rate::Limiter;
use crate::fair_queue::{Resource, Tenant, Unavailable, WaitQueue};
use crate::registry::Bandwidth;

/// Size of a limiter cell, in bytes. With cells of one byte, high rates would have large rounding errors.
const CELL: u64 = 1024;

/// Maximum number of cells that a transfer takes at once. With a low maximum, many transfers share the bandwidth
/// evenly.
const SLICE: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// Interval at which the throttle checks whether another window of the configuration applies now.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Bandwidth limit that several transfers share: for example, the limit of all registries together.
#[derive(Debug)]
pub struct Throttle {
    queue: Arc<WaitQueue<BandwidthState, 1>>,
    /// True if a bandwidth is set.
    limited: AtomicBool,
    /// Number of bytes counted so far. Bytes that do not fill a cell count in the next cell.
    passed: AtomicU64,
}

#[derive(Debug)]
struct BandwidthState {
    bandwidth: Option<Bandwidth>,
    clock: fn() -> DateTime<Utc>,
    checked_at: Option<Instant>,
    rate: Option<u64>,
    cells: Option<Limiter>,
}

impl Throttle {
    /// Returns a throttle with this bandwidth; `None` is no limit.
    #[must_use]
    pub fn new(bandwidth: Option<Bandwidth>) -> Self {
        Self::with_clock(bandwidth, Utc::now)
    }

    fn with_clock(bandwidth: Option<Bandwidth>, clock: fn() -> DateTime<Utc>) -> Self {
        let limited = AtomicBool::new(bandwidth.is_some());
        let state = BandwidthState { bandwidth, clock, checked_at: None, rate: None, cells: None };
        Self { queue: WaitQueue::new(|_| state), limited, passed: AtomicU64::new(0) }
    }

    /// Changes the bandwidth, also for transfers that already wait.
    pub fn set(&self, bandwidth: Option<Bandwidth>) {
        self.limited.store(bandwidth.is_some(), Ordering::Relaxed);
        self.queue.change(|state| {
            if state.bandwidth != bandwidth {
                (state.bandwidth, state.checked_at) = (bandwidth, None);
            }
        });
    }

    /// Returns the rate in force, in bytes per second; `None` is no limit.
    pub(crate) fn current_rate(&self) -> Option<u64> {
        self.queue.with_resource(|state| {
            state.follow_clock(Instant::now());
            state.rate
        })
    }

    /// Waits until the limit allows the transfer of this many bytes. Returns the duration of the wait. Cancel safe.
    pub(crate) async fn spend(&self, tenant: Tenant, bytes: usize) -> Duration {
        if bytes == 0 || !self.limited.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let before = self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut cells = (before + bytes as u64) / CELL - before / CELL;
        let mut waited = Duration::ZERO;
        while let Some(slice) = NonZeroU32::new(u32::try_from(cells).unwrap_or(u32::MAX).min(self.slice().get())) {
            waited += self.queue.acquire(tenant, 0, slice).await.1;
            cells -= u64::from(slice.get());
        }
        waited
    }

    /// Returns the maximum number of cells that a transfer can take at once.
    fn slice(&self) -> NonZeroU32 {
        self.queue.with_resource(|state| {
            state.follow_clock(Instant::now());
            state.cells.as_ref().map_or(SLICE, |cells| cells.burst().min(SLICE))
        })
    }
}

impl Default for Throttle {
    /// Returns a throttle without a limit.
    fn default() -> Self {
        Self::new(None)
    }
}

impl BandwidthState {
    /// Applies the window that contains the clock's time.
    fn follow_clock(&mut self, now: Instant) {
        if self.checked_at.is_some_and(|checked_at| now < checked_at + CHECK_INTERVAL) {
            return;
        }
        self.checked_at = Some(now);
        let rate = self.bandwidth.as_ref().and_then(|bandwidth| bandwidth.rate_at((self.clock)()));
        if rate != self.rate {
            self.rate = rate;
            self.cells = rate.map(quota_from_bandwidth).map(Limiter::new);
        }
    }
}

impl Resource for BandwidthState {
    type Grant = ();

    fn take(&mut self, _: Tenant, _: usize, amount: NonZeroU32, now: Instant) -> Result<(), Unavailable> {
        self.follow_clock(now);
        let Some(cells) = &self.cells else { return Ok(()) };
        cells.take(amount).map(drop).map_err(|not_before| Unavailable::Until(not_before.min(now + CHECK_INTERVAL)))
    }
}

/// Returns a quota whose burst is the number of bytes of a tenth of a second.
fn quota_from_bandwidth(bytes_per_second: u64) -> Quota {
    let cells = u32::try_from(bytes_per_second.div_ceil(CELL)).unwrap_or(u32::MAX);
    let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(cells).allow_burst(NonZeroU32::new(cells.get() / 10).unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn small_pieces_add_up_to_the_configured_rate() {
        let throttle = Throttle::new(Some(Bandwidth::always(MIB)));
        let began = Instant::now();
        for _ in 0..512 {
            throttle.spend(Tenant::default(), 700).await;
        }
        let exact = Duration::from_millis(512 * 700 * 1000 / MIB);
        let took = began.elapsed();
        assert!(took + Duration::from_millis(101) >= exact, "{took:?} instead of {exact:?}");
        assert!(took <= exact + Duration::from_millis(101), "{took:?} instead of {exact:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn large_piece_does_not_delay_another_tenants_small_one() {
        let throttle = Arc::new(Throttle::new(Some(Bandwidth::always(MIB))));
        let large = tokio::spawn({
            let throttle = throttle.clone();
            async move { throttle.spend(Tenant::from_name("large"), 64 << 20).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waited = throttle.spend(Tenant::from_name("small"), 128 << 10).await;
        assert!(waited < Duration::from_millis(400), "{waited:?}");
        assert!(large.await.unwrap() > Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn new_window_applies_to_waiting_bytes_within_a_second() {
        thread_local!(static BEGAN: Instant = Instant::now());
        // The clock starts ten seconds before the window ends.
        fn clock() -> DateTime<Utc> {
            let start: DateTime<Utc> = "2026-11-21T17:59:50Z".parse().unwrap();
            start + BEGAN.with(Instant::elapsed)
        }
        clock();
        let bandwidth = Bandwidth::new(vec![
            "08:00-18:00".parse::<crate::registry::Hours>().unwrap().at_rate(1024),
            crate::registry::Window::always(100 * MIB),
        ]);
        let throttle = Throttle::with_clock(Some(bandwidth), clock);
        let waited = throttle.spend(Tenant::default(), 50 << 20).await;
        assert!((10..=12).contains(&waited.as_secs()), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn new_bandwidth_applies_to_waiting_bytes_at_once() {
        let throttle = Arc::new(Throttle::new(Some(Bandwidth::always(1024))));
        let waiting = tokio::spawn({
            let throttle = throttle.clone();
            async move { throttle.spend(Tenant::default(), 1 << 20).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        throttle.set(None);
        assert_eq!(waiting.await.unwrap().as_secs(), 5);
        assert_eq!(throttle.spend(Tenant::default(), 1 << 30).await, Duration::ZERO);
    }
}
