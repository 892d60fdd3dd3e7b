//! Pairs of repositories between which an identity may not mount: it may have the right to write one of them without
//! the right to read the other. A pair is tried again after a while, because rights change.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::oci::RepositoryName;

/// Time for which a refusal is remembered.
const BELIEVED_FOR: Duration = Duration::from_secs(600);
/// Maximum number of pairs that are remembered.
const REMEMBERED: usize = 1024;

/// Refused mounts by source and target repository, with the time of the refusal.
#[derive(Debug, Default)]
pub(crate) struct MountDenials(Mutex<HashMap<(RepositoryName, RepositoryName), Instant>>);

impl MountDenials {
    /// Returns true if such a mount was refused recently.
    pub(crate) fn contains(&self, from: &RepositoryName, to: &RepositoryName) -> bool {
        let known = self.0.lock();
        known.get(&(from.clone(), to.clone())).is_some_and(|refused| refused.elapsed() < BELIEVED_FOR)
    }

    /// Remembers a refused mount.
    pub(crate) fn remember(&self, from: &RepositoryName, to: &RepositoryName) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, refused| refused.elapsed() < BELIEVED_FOR);
        }
        if known.len() < REMEMBERED {
            known.insert((from.clone(), to.clone()), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refused_mount_is_remembered_ten_minutes_per_pair() {
        let (a, b): (RepositoryName, RepositoryName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let unmountable = MountDenials::default();
        unmountable.remember(&a, &b);
        assert!(unmountable.contains(&a, &b) && !unmountable.contains(&b, &a));
        tokio::time::advance(BELIEVED_FOR).await;
        assert!(!unmountable.contains(&a, &b));
    }
}
