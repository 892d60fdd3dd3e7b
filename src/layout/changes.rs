//! Entries that wait to be listed in `index.json`: whoever gets the turn to write lists them all, so that many tags
//! at once cost few rewrites and few syncs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::disk::Disk;
use super::fault::Fault;
use super::referrers::Facts;
use crate::oci::{Manifest, Tag};

/// What a waiting change comes to; the fault is that of all changes of one rewrite.
pub(super) type Outcome = Result<(), Arc<Fault>>;

/// The changes that wait, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<Vec<Change>>);

#[derive(Debug)]
struct Change {
    manifest: Manifest,
    /// `None` lists the manifest without a name.
    tag: Option<Tag>,
    done: oneshot::Sender<Outcome>,
}

impl Changes {
    /// Puts a change in the queue. It is dropped unmade when the receiver is.
    pub(super) fn ask(&self, manifest: Manifest, tag: Option<Tag>) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Change { manifest, tag, done });
        outcome
    }

    /// Makes all changes that wait, with one rewrite, and answers them. To be called under the lock.
    pub(super) fn make(&self, disk: &Disk, facts: &Facts) {
        let changes = self.take();
        if changes.is_empty() {
            return;
        }
        let outcome = rewrite(disk, facts, &changes).map_err(Arc::new);
        answer(changes, &outcome);
    }

    /// Answers all changes that wait with a fault that each of them would meet.
    pub(super) fn refuse(&self, fault: Fault) {
        answer(self.take(), &Err(Arc::new(fault)));
    }

    fn take(&self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        changes.retain(|change| !change.done.is_closed());
        changes
    }
}

fn answer(changes: Vec<Change>, outcome: &Outcome) {
    for change in changes {
        // Who no longer waits has no use for it.
        _ = change.done.send(outcome.clone());
    }
}

fn rewrite(disk: &Disk, facts: &Facts, changes: &[Change]) -> Result<(), Fault> {
    let mut index = disk.read_index()?.ok_or_else(|| disk.no_layout())?.into_index();
    let mut changed = false;
    for Change { manifest, tag, .. } in changes {
        changed |= match tag {
            Some(tag) => index.set_tag(tag, manifest, |digest| facts.is_referrer(disk, digest)),
            None => index.add(manifest),
        };
    }
    if changed { disk.write_index(&index) } else { Ok(()) }
}
