//! Notices that a file of the configuration may have changed: by its folder's events and, for file systems that send none,
//! by a slow poll. Whether it did change is for the reader of the content to say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Editors write a file in several steps: this long must nothing happen before it is read.
const QUIET: Duration = Duration::from_millis(250);

/// Something in the folder may never rest (a journal, a log): after this long the file is read all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the file is read without any event.
const POLL: Duration = Duration::from_secs(30);

/// Sends a value whenever a file in one of the folders may have changed, until `stop`; the first one as soon as it watches,
/// for what changed before. A folder that cannot be watched is
/// polled only.
pub(super) async fn watch(folders: Vec<PathBuf>, changed: mpsc::Sender<()>, stop: CancellationToken) {
    let (events, mut noticed) = mpsc::channel(1);
    let _watchers: Vec<_> = folders.iter().filter_map(|folder| watcher(folder, events.clone())).collect();
    while changed.send(()).await.is_ok() {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = noticed.recv() => settle(&mut noticed).await,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Waits until nothing has happened for a while, but not for ever.
async fn settle(noticed: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, noticed.recv()).await {} };
    let _ = tokio::time::timeout(PATIENCE, quiet).await;
}

fn watcher(folder: &Path, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let failed = |error: notify::Error| {
        tracing::warn!(folder = %folder.display(), %error, "the folder cannot be watched; it is read every 30 s");
    };
    folder_watcher(folder, events).map_err(failed).ok()
}

/// The folder is watched, not the file: an editor's rename or a swapped symbolic link replaces the file, and a watch on
/// the old one would hear nothing more.
fn folder_watcher(folder: &Path, events: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !is_read {
            // A full channel means that a notice is waiting already.
            let _ = events.try_send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_never_rests_delays_the_reading_only_for_a_while() {
        let (sender, mut noticed) = mpsc::channel(1);
        let restless = tokio::spawn(async move {
            while sender.send(()).await.is_ok() {
                tokio::time::sleep(QUIET / 2).await;
            }
        });
        let started = tokio::time::Instant::now();
        settle(&mut noticed).await;
        assert_eq!(started.elapsed(), PATIENCE);
        drop(noticed);
        restless.await.unwrap();
    }

    async fn notices(write: impl FnOnce(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sync.yaml");
        std::fs::write(&file, "old").unwrap();
        let (sender, mut changed) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = tokio::spawn(watch(vec![folder.path().to_owned()], sender, stop.clone()));
        changed.recv().await.expect("it watches from now on");
        write(&file);
        tokio::time::timeout(Duration::from_secs(20), changed.recv()).await.expect("noticed").expect("open");
        stop.cancel();
        watching.await.unwrap();
    }

    #[tokio::test]
    async fn an_edit_in_place_is_noticed() {
        notices(|file| std::fs::write(file, "new").unwrap()).await;
    }

    #[tokio::test]
    async fn a_file_that_is_renamed_over_is_noticed() {
        notices(|file| {
            std::fs::write(file.with_extension("tmp"), "new").unwrap();
            std::fs::rename(file.with_extension("tmp"), file).unwrap();
        })
        .await;
    }

    /// A Kubernetes ConfigMap: `sync.yaml` points into `..data`, which points into a folder of that version.
    #[tokio::test]
    async fn a_link_that_is_swapped_for_one_to_the_next_version_is_noticed() {
        notices(|file| {
            let folder = file.parent().unwrap();
            std::fs::create_dir(folder.join("..2")).unwrap();
            std::fs::write(folder.join("..2/sync.yaml"), "new").unwrap();
            std::os::unix::fs::symlink("..2", folder.join("..data_tmp")).unwrap();
            std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        })
        .await;
    }
}
