//! The memory for one blob on its way to several targets, set aside for all of them at once: else those that come first
//! would hold the memory of which their siblings stand in need to join the same read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use super::Copier;

/// What is set aside for one blob.
#[derive(Debug)]
pub(super) struct Share {
    copier: Arc<Copier>,
    size: u64,
    transfers: usize,
    filled: OnceCell<()>,
    pot: Mutex<Pot>,
}

#[derive(Debug, Default)]
struct Pot {
    permits: Vec<OwnedSemaphorePermit>,
    holders: usize,
    closed: bool,
}

/// The memory of one transfer.
#[derive(Debug)]
pub(super) struct Part {
    share: Arc<Share>,
    _permit: OwnedSemaphorePermit,
}

impl Share {
    /// The share of a blob of `size` bytes that goes to at most so many targets. Nothing is set aside yet.
    pub(super) fn new(copier: &Arc<Copier>, size: u64, transfers: usize) -> Arc<Self> {
        let (filled, pot) = (OnceCell::new(), Mutex::default());
        Arc::new(Self { copier: copier.clone(), size, transfers, filled, pot })
    }

    /// Waits for the memory of one transfer. Who comes first waits for that of all.
    pub(super) async fn take(self: &Arc<Self>) -> Part {
        let fill = || async {
            let mut permits = self.copier.reserve(self.size, self.transfers).await;
            let mut pot = self.pot();
            if pot.closed {
                permits.truncate(1);
            }
            pot.permits = permits;
        };
        if !self.pot().closed {
            self.filled.get_or_init(fill).await;
        }
        let part = self.pot().permits.pop();
        let permit = match part {
            Some(permit) => permit,
            None => self.copier.reserve_one(self.size).await,
        };
        self.pot().holders += 1;
        Part { share: self.clone(), _permit: permit }
    }

    /// Gives back what nobody has taken: the read begins, and who comes now reads alone.
    pub(super) fn close(&self) {
        let mut pot = self.pot();
        pot.closed = true;
        pot.permits.clear();
    }

    fn pot(&self) -> MutexGuard<'_, Pot> {
        self.pot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Nobody is left who will begin to read soon, and siblings may wait for other copies: memory must not wait with them.
        let mut pot = self.share.pot();
        pot.holders -= 1;
        if pot.holders == 0 {
            pot.permits.clear();
        }
    }
}
