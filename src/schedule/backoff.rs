//! Back-off of an entry whose runs fail repeatedly: the minimum delay before the next scheduled run.

use std::time::Duration;

/// Maximum delay, in minutes.
const MAX_MINUTES: u32 = 60;

/// Returns the minimum delay between the last failure of an entry and its next scheduled run. `failures` is the number
/// of consecutive failures. After the first failure, there is no delay. After the second failure, the delay is 2
/// minutes. Each later failure doubles the delay, up to one hour.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let minutes = match failures {
        0 | 1 => 0,
        more => 1_u32.checked_shl(more - 1).unwrap_or(MAX_MINUTES).min(MAX_MINUTES),
    };
    Duration::from_secs(u64::from(minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_from_second_failure_up_to_an_hour() {
        let minutes = |failures| backoff(failures).as_secs() / 60;
        let all: Vec<u64> = (0..9).map(minutes).collect();
        assert_eq!(all, [0, 0, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((minutes(33), minutes(u32::MAX)), (60, 60));
    }
}
