//! Publication of an archive, and the count of runs that write to the archive's new file.

use std::sync::atomic::Ordering;

use super::Layout;
use super::disk::Disk;
use crate::store::{Step, StoreError};

impl Layout {
    /// Replaces an archive by its new file, durably. Does nothing if there is no new file, or if the layout is a
    /// folder.
    ///
    /// # Errors
    /// Returns an error in these cases:
    ///
    /// - The new file cannot be completed, or another program has changed the archive. The old archive stays.
    /// - The last sync fails. The new archive is in place, but a crash of the machine can undo the replacement.
    pub async fn publish(&self) -> Result<(), StoreError> {
        // Wait for any task that is changing `index.json`.
        let guard = self.acquire_writer().await;
        let publish = move |disk: &Disk| {
            let _held = guard;
            disk.publish()
        };
        self.on_disk(publish).await.map_err(self.context.to_error(Step::PublishArchive, ""))
    }

    /// Increments the number of runs that can write. When the run ends, the caller must call [`Layout::leave`].
    pub(crate) fn enter(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// Decrements the number of runs that can write. After the last run, removes the unpublished files of an archive.
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
        // This call fails only if the program is shutting down. In this case, the next writer removes the new file.
        _ = self.on_disk(discard).await;
    }

    /// Returns true if the layout is an archive with unpublished files.
    pub(crate) fn is_staging(&self) -> bool {
        self.disk.is_staging()
    }
}
