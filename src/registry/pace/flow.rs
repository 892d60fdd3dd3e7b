//! Bytes: how many may pass, by the bandwidth that holds now.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::Quota;
use tokio::time::Instant;

use super::rate::Limiter;
use crate::registry::Bandwidth;
use crate::registry::line::{Closed, Line, Supply};
use crate::registry::turns::Party;

/// The cell of the limiter. Single bytes round badly at high rates.
const CELL: u64 = 1024;

/// The most cells taken at once, so that many streams share evenly.
const SLICE: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// How often the clock is looked at for a change of window.
const LOOK: Duration = Duration::from_secs(1);

/// A bandwidth that several share, such as that of all registries together.
#[derive(Debug)]
pub struct Throttle {
    line: Arc<Line<Flow, 1>>,
    /// Whether there is any limit at all.
    limited: AtomicBool,
    /// The bytes that have passed. What does not fill a cell waits for the next.
    passed: AtomicU64,
}

#[derive(Debug)]
struct Flow {
    bandwidth: Option<Bandwidth>,
    clock: fn() -> DateTime<Utc>,
    looked: Option<Instant>,
    rate: Option<u64>,
    cells: Option<Limiter>,
}

impl Throttle {
    /// By this bandwidth; `None` holds nothing back.
    #[must_use]
    pub fn new(bandwidth: Option<Bandwidth>) -> Self {
        Self::by_clock(bandwidth, Utc::now)
    }

    fn by_clock(bandwidth: Option<Bandwidth>, clock: fn() -> DateTime<Utc>) -> Self {
        let limited = AtomicBool::new(bandwidth.is_some());
        let flow = Flow { bandwidth, clock, looked: None, rate: None, cells: None };
        Self { line: Line::new(|_| flow), limited, passed: AtomicU64::new(0) }
    }

    /// Another bandwidth from now on, for what waits already too.
    pub fn set(&self, bandwidth: Option<Bandwidth>) {
        self.limited.store(bandwidth.is_some(), Ordering::Relaxed);
        self.line.change(|flow| {
            if flow.bandwidth != bandwidth {
                (flow.bandwidth, flow.looked) = (bandwidth, None);
            }
        });
    }

    /// Bytes a second that may pass now; `None` is no limit.
    pub(super) fn rate_now(&self) -> Option<u64> {
        self.line.look(|flow| {
            flow.look(Instant::now());
            flow.rate
        })
    }

    /// Waits until this many bytes may pass. Returns how long that took. Cancel safe.
    pub(super) async fn spend(&self, party: Party, bytes: usize) -> Duration {
        if bytes == 0 || !self.limited.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let before = self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut cells = (before + bytes as u64) / CELL - before / CELL;
        let mut waited = Duration::ZERO;
        while let Some(slice) = NonZeroU32::new(u32::try_from(cells).unwrap_or(u32::MAX).min(self.slice().get())) {
            waited += self.line.pass(party, 0, slice).await.1;
            cells -= u64::from(slice.get());
        }
        waited
    }

    /// The most cells that can be taken at once.
    fn slice(&self) -> NonZeroU32 {
        self.line.look(|flow| {
            flow.look(Instant::now());
            flow.cells.as_ref().map_or(SLICE, |cells| cells.burst().min(SLICE))
        })
    }
}

impl Default for Throttle {
    /// Holds nothing back.
    fn default() -> Self {
        Self::new(None)
    }
}

impl Flow {
    /// Follows the clock to another window.
    fn look(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now < looked + LOOK) {
            return;
        }
        self.looked = Some(now);
        let rate = self.bandwidth.as_ref().and_then(|bandwidth| bandwidth.at((self.clock)()));
        if rate != self.rate {
            self.rate = rate;
            self.cells = rate.map(quota_of).map(Limiter::new);
        }
    }
}

impl Supply for Flow {
    type Grant = ();

    fn take(&mut self, _: Party, _: usize, amount: NonZeroU32, now: Instant) -> Result<(), Closed> {
        self.look(now);
        let Some(cells) = &self.cells else { return Ok(()) };
        cells.take(amount).map(drop).map_err(|not_before| Closed::Until(not_before.min(now + LOOK)))
    }
}

/// A tenth of a second at once at most, so that the rate also holds over short times.
fn quota_of(bytes_per_second: u64) -> Quota {
    let cells = u32::try_from(bytes_per_second.div_ceil(CELL)).unwrap_or(u32::MAX);
    let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(cells).allow_burst(NonZeroU32::new(cells.get() / 10).unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_and_small_pieces_are_not_lost() {
        let throttle = Throttle::new(Some(Bandwidth::always(MIB)));
        let began = Instant::now();
        for _ in 0..512 {
            throttle.spend(Party::default(), 700).await;
        }
        let exact = Duration::from_millis(512 * 700 * 1000 / MIB);
        let took = began.elapsed();
        assert!(took + Duration::from_millis(101) >= exact, "{took:?} instead of {exact:?}");
        assert!(took <= exact + Duration::from_millis(101), "{took:?} instead of {exact:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_piece_of_one_party_does_not_hold_up_a_small_one_of_another() {
        let throttle = Arc::new(Throttle::new(Some(Bandwidth::always(MIB))));
        let large = tokio::spawn({
            let throttle = throttle.clone();
            async move { throttle.spend(Party::of("large"), 64 << 20).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let waited = throttle.spend(Party::of("small"), 128 << 10).await;
        assert!(waited < Duration::from_millis(400), "{waited:?}");
        assert!(large.await.unwrap() > Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn another_window_holds_within_a_second_for_what_waits_already() {
        thread_local!(static BEGAN: Instant = Instant::now());
        // Ten seconds before the window ends.
        fn clock() -> DateTime<Utc> {
            let start: DateTime<Utc> = "2026-11-21T17:59:50Z".parse().unwrap();
            start + BEGAN.with(Instant::elapsed)
        }
        clock();
        let bandwidth = Bandwidth::new(vec![
            "08:00-18:00".parse::<crate::registry::Hours>().unwrap().at_rate(1024),
            crate::registry::Window::always(100 * MIB),
        ]);
        let throttle = Throttle::by_clock(Some(bandwidth), clock);
        let waited = throttle.spend(Party::default(), 50 << 20).await;
        assert!((10..=12).contains(&waited.as_secs()), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_bandwidth_holds_at_once_for_what_waits_already() {
        let throttle = Arc::new(Throttle::new(Some(Bandwidth::always(1024))));
        let waiting = tokio::spawn({
            let throttle = throttle.clone();
            async move { throttle.spend(Party::default(), 1 << 20).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        throttle.set(None);
        assert_eq!(waiting.await.unwrap().as_secs(), 5);
        assert_eq!(throttle.spend(Party::default(), 1 << 30).await, Duration::ZERO);
    }
}
