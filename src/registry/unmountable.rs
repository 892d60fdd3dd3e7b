//! Between which repositories one identity may not mount: it can be allowed to write one and not to read the other. Asked
//! for anew now and then, since rights change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::oci::RepositoryName;

/// How long a refusal is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(600);
/// How many are remembered.
const REMEMBERED: usize = 1024;

/// From where to where, and when that was refused.
#[derive(Debug, Default)]
pub(crate) struct Unmountable(Mutex<HashMap<(RepositoryName, RepositoryName), Instant>>);

impl Unmountable {
    /// Whether a mount was refused lately.
    pub(crate) fn knows(&self, from: &RepositoryName, to: &RepositoryName) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(from.clone(), to.clone())).is_some_and(|refused| refused.elapsed() < BELIEVED_FOR)
    }

    /// Remembers that a mount was refused.
    pub(crate) fn learn(&self, from: &RepositoryName, to: &RepositoryName) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    async fn a_refusal_holds_for_its_pair_and_for_ten_minutes() {
        let (a, b): (RepositoryName, RepositoryName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let unmountable = Unmountable::default();
        unmountable.learn(&a, &b);
        assert!(unmountable.knows(&a, &b) && !unmountable.knows(&b, &a));
        tokio::time::advance(BELIEVED_FOR).await;
        assert!(!unmountable.knows(&a, &b));
    }
}
