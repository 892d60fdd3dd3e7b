//! Jitter: spreads entries of one schedule over a span, each always at the same place in it.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How long after its scheduled instant the entry named `entry` fires: from zero to below `max`, the same at every
/// call, on every machine and in every version, and spread evenly over names.
#[must_use]
pub fn jitter_of(entry: &str, max: Duration) -> Duration {
    let hash: [u8; 32] = Sha256::digest(entry.as_bytes()).into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    // The high half of the product is a fair share of `max`, without the bias of a remainder.
    let share = (u128::from(u64::from_be_bytes(first)) * u128::from(max)) >> 64;
    Duration::from_millis(u64::try_from(share).unwrap_or(0))
}
