//! Jitter: a delay that spreads the runs of entries with the same schedule over a span of time. The delay of an entry
//! is always the same.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Returns the delay of the entry named `entry` after its scheduled time. The delay is at least zero and less than
/// `max`. The delay depends only on the two arguments, and is the same on every machine and in every version. The
/// delays of different names are distributed evenly.
#[must_use]
pub fn jitter_of(entry: &str, max: Duration) -> Duration {
    let hash: [u8; 32] = Sha256::digest(entry.as_bytes()).into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    // The high half of the product is distributed evenly below `max`.
    let share = (u128::from(u64::from_be_bytes(first)) * u128::from(max)) >> 64;
    Duration::from_millis(u64::try_from(share).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_stable_below_its_bound_and_spread_evenly() {
        let five = Duration::from_secs(300);
        assert_eq!(jitter_of("python-base", five), Duration::from_millis(100_248));
        assert_eq!(jitter_of("python-base", Duration::ZERO), Duration::ZERO);
        let many: Vec<Duration> = (0..1000).map(|n| jitter_of(&format!("entry-{n}"), five)).collect();
        assert!(many.iter().all(|jitter| *jitter < five));
        for fifth in 0..5 {
            let within = Duration::from_secs(60 * fifth)..Duration::from_secs(60 * (fifth + 1));
            let count = many.iter().filter(|jitter| within.contains(*jitter)).count();
            assert!((150..250).contains(&count), "{count} in {within:?}");
        }
    }
}
