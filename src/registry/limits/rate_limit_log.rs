//! Record of the pauses that a registry asked for: decides which of them is logged. A registry that limits the rate of
//! requests answers many requests with 429, and one line for each would fill the log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time without a pause after which the next pause is logged again.
const QUIET: Duration = Duration::from_secs(60);

/// End of the latest pause of one registry.
#[derive(Debug, Default)]
pub(crate) struct RateLimitLog(Mutex<Option<Instant>>);

impl RateLimitLog {
    /// Records a pause that begins now. Returns true if the pause is the first one, or the first one after a time
    /// without pauses.
    pub(crate) fn record(&self, pause: Duration) -> bool {
        let now = Instant::now();
        let mut latest = self.0.lock();
        let is_first = latest.is_none_or(|end| now > end + QUIET);
        *latest = Some(latest.unwrap_or(now).max(now + pause));
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn first_pause_is_logged_and_next_one_after_quiet_time() {
        let log = RateLimitLog::default();
        let seconds = Duration::from_secs;
        assert!(log.record(seconds(2)));
        assert!(!log.record(seconds(2)));
        tokio::time::advance(seconds(61)).await;
        assert!(!log.record(seconds(300)), "the quiet time begins at the end of a pause");
        tokio::time::advance(seconds(359)).await;
        assert!(!log.record(seconds(1)));
        tokio::time::advance(seconds(62)).await;
        assert!(log.record(seconds(1)));
    }
}
