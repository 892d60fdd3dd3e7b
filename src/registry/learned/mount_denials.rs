//! Mounts that a registry refused to an identity, because the identity has no read access to the source repository.
//! After ten minutes ([`REMEMBERED_FOR`]), the client tries the mount again.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::oci::RepositoryName;

/// Duration for which the client remembers a refusal.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// Maximum number of remembered pairs of repositories.
const MAX_PAIRS: usize = 1024;

/// Refused mounts. The key is the source and the target repository, and the value is the time of the refusal.
#[derive(Debug, Default)]
pub(crate) struct MountDenials(Mutex<HashMap<(RepositoryName, RepositoryName), Instant>>);

impl MountDenials {
    /// Returns true if the registry recently refused a mount from `from` into `to`.
    pub(crate) fn contains(&self, from: &RepositoryName, to: &RepositoryName) -> bool {
        let known = self.0.lock();
        known.get(&(from.clone(), to.clone())).is_some_and(|refused| refused.elapsed() < REMEMBERED_FOR)
    }

    /// Records that the registry refused a mount from `from` into `to`.
    pub(crate) fn remember(&self, from: &RepositoryName, to: &RepositoryName) {
        let mut known = self.0.lock();
        if known.len() >= MAX_PAIRS {
            known.retain(|_, refused| refused.elapsed() < REMEMBERED_FOR);
        }
        if known.len() < MAX_PAIRS {
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
        let denials = MountDenials::default();
        denials.remember(&a, &b);
        assert!(denials.contains(&a, &b) && !denials.contains(&b, &a));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert!(!denials.contains(&a, &b));
    }
}
