//! Support of a registry for the referrers API, and the locks of the lists of referrers. If the registry lacks the API,
//! the client writes the list of a subject's referrers under a fallback tag (`sha256-<hex>`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::oci::{Digest, RepositoryName};

/// Support of a registry for the referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReferrersApi {
    Unknown = 0,
    Present = 1,
    Absent = 2,
}

/// Support of a registry for the referrers API, and the locks of the lists of referrers.
#[derive(Debug)]
pub(crate) struct ReferrersSupport {
    api: AtomicU8,
    /// True after a caller has claimed the first request to the API. That caller holds the lock until its request has
    /// ended.
    probed: tokio::sync::Mutex<bool>,
    list_locks: Mutex<HashMap<(RepositoryName, Digest), Weak<ReferrersListLock>>>,
}

/// Lock of the list of referrers of one subject. A writer of the list holds the lock.
pub(crate) type ReferrersListLock = tokio::sync::Mutex<()>;

impl Default for ReferrersSupport {
    fn default() -> Self {
        let api = AtomicU8::new(ReferrersApi::Unknown as u8);
        Self { api, probed: tokio::sync::Mutex::new(false), list_locks: Mutex::default() }
    }
}

impl ReferrersSupport {
    pub(crate) fn api(&self) -> ReferrersApi {
        match self.api.load(Ordering::Relaxed) {
            1 => ReferrersApi::Present,
            2 => ReferrersApi::Absent,
            _ => ReferrersApi::Unknown,
        }
    }

    /// Records whether the registry has the referrers API. After a call with [`ReferrersApi::Present`], later calls
    /// have no effect.
    pub(crate) fn learn_api(&self, api: ReferrersApi) {
        if self.api() != ReferrersApi::Present {
            self.api.store(api as u8, Ordering::Relaxed);
        }
    }

    /// If the client already knows whether the registry has the referrers API, returns `None`. Otherwise the first
    /// caller gets a guard and must send the first request to the API. Each later caller waits until the first caller
    /// drops the guard, and then gets `None`.
    pub(crate) async fn claim_first_request(&self) -> Option<tokio::sync::MutexGuard<'_, bool>> {
        if self.api() != ReferrersApi::Unknown {
            return None;
        }
        let mut probed = self.probed.lock().await;
        (!std::mem::replace(&mut *probed, true)).then_some(probed)
    }

    pub(crate) fn list_lock(&self, name: &RepositoryName, subject: Digest) -> Arc<ReferrersListLock> {
        let mut locks = self.list_locks.lock();
        let key = (name.clone(), subject);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}
