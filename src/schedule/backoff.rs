//! Back-off of an entry that keeps failing: the delay before its schedule may start it again.

use std::time::Duration;

const LONGEST: u32 = 60;

/// Returns the delay after the last failure of an entry that has failed `failures` times in a row: none after the
/// first, then 2 minutes, 4, and so on, an hour at most. It does not affect an entry whose runs are further apart
/// than that.
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
    fn backoff_doubles_from_second_failure_up_to_an_hour() {
        let minutes = |failures| backoff(failures).as_secs() / 60;
        let all: Vec<u64> = (0..9).map(minutes).collect();
        assert_eq!(all, [0, 0, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((minutes(33), minutes(u32::MAX)), (60, 60));
    }
}
