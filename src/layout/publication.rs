//! Publication of an archive, and the runs that share its new file.

use std::sync::atomic::Ordering;

use super::Layout;
use super::disk::Disk;
use crate::store::{Step, StoreError};

impl Layout {
    /// Replaces an archive by its new file, durably, if there is one. Does nothing for a layout in a folder.
    ///
    /// # Errors
    /// [`StoreError`] if the new file cannot be completed, or if another program has changed the archive. The archive
    /// is unchanged then. The error is also returned if the new archive may not survive a crash of the machine.
    pub async fn publish(&self) -> Result<(), StoreError> {
        // Another task may have read `index.json` to change it.
        let guard = self.acquire_writer().await;
        let publish = move |disk: &Disk| {
            let _held = guard;
            disk.publish()
        };
        self.on_disk(publish).await.map_err(self.context.to_error(Step::PublishArchive, ""))
    }

    /// Counts one more run that may write. Call [`Layout::leave`] when the run ends.
    pub(crate) fn enter(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a run. If no other run may write, the files that no run has published are removed.
    pub(crate) async fn leave(&self) {
        let guard = self.acquire_writer().await;
        if self.runs.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let discard = move |disk: &Disk| {
            let _held = guard;
            disk.discard();
            Ok(())
        };
        // The only error is the end of the program. The next writer then removes the files.
        _ = self.on_disk(discard).await;
    }

    /// Returns true if an archive has files that are not published.
    pub(crate) fn is_staging(&self) -> bool {
        self.disk.is_staging()
    }
}
