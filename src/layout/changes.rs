//! Queue of changes of `index.json`. Each change adds one manifest. The task that acquires the writer lock applies all
//! queued changes at once. With this queue, a hundred concurrent writes of tags need only a few rewrites and syncs of
//! the file.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::fault::Fault;
use super::referrers::Facts;
use crate::oci::{Manifest, Tag};

/// Outcome of a queued change. If a rewrite fails, all changes of the rewrite have the same fault.
pub(super) type Outcome = Result<(), Arc<Fault>>;

/// Queued changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<Vec<Change>>);

#[derive(Debug)]
struct Change {
    manifest: Manifest,
    /// Tag that will point at the manifest. If `None`, the change lists the manifest without a tag.
    tag: Option<Tag>,
    done: oneshot::Sender<Outcome>,
}

impl Changes {
    /// Adds a change to the queue. If the caller drops the receiver before the rewrite, the rewrite skips the change.
    pub(super) fn enqueue(&self, manifest: Manifest, tag: Option<Tag>) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        self.0.lock().push(Change { manifest, tag, done });
        outcome
    }

    /// Applies all queued changes with one rewrite, and reports the outcome of each change to its caller. The caller
    /// must hold the writer lock.
    pub(super) fn apply_all(&self, disk: &Disk, facts: &Facts) {
        let changes = self.take();
        if changes.is_empty() {
            return;
        }
        let outcome = rewrite(disk, facts, &changes).map_err(Arc::new);
        complete(changes, &outcome);
    }

    pub(super) fn fail_all(&self, fault: Fault) {
        complete(self.take(), &Err(Arc::new(fault)));
    }

    fn take(&self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut *self.0.lock());
        changes.retain(|change| !change.done.is_closed());
        changes
    }
}

fn complete(changes: Vec<Change>, outcome: &Outcome) {
    for change in changes {
        // A cancelled caller has dropped its receiver.
        _ = change.done.send(outcome.clone());
    }
}

fn rewrite(disk: &Disk, facts: &Facts, changes: &[Change]) -> Result<(), Fault> {
    let mut index = disk.read_index()?.ok_or_else(|| disk.missing_layout_fault())?.into_index();
    let mut changed = false;
    for Change { manifest, tag, .. } in changes {
        changed |= match tag {
            Some(tag) => index.set_tag(tag, manifest, |digest| facts.is_referrer(disk, digest)),
            None => index.add(manifest),
        };
    }
    if changed { disk.write_index(&index) } else { Ok(()) }
}
