//! Rate limit for log messages: one message a minute. Without this limit, a client that guesses secrets could fill the
//! log. The caller writes the message.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(60);

/// Time of the last message. For one minute after this time, no message is due.
#[derive(Debug, Default)]
pub struct OncePerMinute(Mutex<Option<Instant>>);

impl OncePerMinute {
    /// If a message is due, returns true. The next message is then due one minute later.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn message_is_due_once_a_minute() {
        let limit = OncePerMinute::default();
        assert!(limit.is_due() && !limit.is_due());
        tokio::time::advance(INTERVAL).await;
        assert!(limit.is_due() && !limit.is_due());
    }
}
