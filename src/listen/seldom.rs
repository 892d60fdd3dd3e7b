//! What is said at most once a minute: neither who guesses secrets nor a secret that cannot be read shall fill the log. It only tells whether
//! the minute is over; the words are those of who asks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const AGAIN: Duration = Duration::from_secs(60);

/// Whether something was said within the last minute.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is to be said now; then it is not for the next minute.
    #[must_use]
    pub fn now(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= AGAIN);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_minute() {
        let seldom = Seldom::default();
        assert!(seldom.now() && !seldom.now());
        tokio::time::advance(AGAIN).await;
        assert!(seldom.now() && !seldom.now());
    }
}
