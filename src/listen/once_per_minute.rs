//! Rate limit for log messages: one message a minute. So a client that guesses secrets, or an unreadable secret, cannot
//! fill the log. The caller writes the message.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(60);

/// Time of the last message. Further messages are suppressed for a minute.
#[derive(Debug, Default)]
pub struct OncePerMinute(Mutex<Option<Instant>>);

impl OncePerMinute {
    /// Returns true if a message is due. The next message is then due after a minute.
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
