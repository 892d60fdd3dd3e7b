//! How long an entry that keeps failing is left alone by its schedule.

use std::time::Duration;

const LONGEST: u32 = 60;

/// How long after its last failure an entry waits that has failed so many times in a row: nothing after the first, then 2
/// minutes, 4, and so on, an hour at most. An entry whose firings are further apart than that is not touched by it.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let minutes = match failures {
        0 | 1 => 0,
        more => 1_u32.checked_shl(more - 1).unwrap_or(LONGEST).min(LONGEST),
    };
    Duration::from_secs(u64::from(minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_from_the_second_failure_on_up_to_an_hour() {
        let minutes = |failures| backoff(failures).as_secs() / 60;
        let all: Vec<u64> = (0..9).map(minutes).collect();
        assert_eq!(all, [0, 0, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((minutes(33), minutes(u32::MAX)), (60, 60));
    }
}
