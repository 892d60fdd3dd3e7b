//! Watcher of the configuration files: it reports that a file may have changed, from the events of its folder and, for
//! file systems that send no events, from a slow poll. The reader of the content decides if the file did change.
//!
//! The folder may also hold a log, the journal or a layout. The watcher drops their events: otherwise a log line about
//! an event of the log would cause the next event.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Time without events before the file is read: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(250);

/// Longest wait for such a quiet time: a file that never stops changing is read after it all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// Interval at which the file is read without any event.
const POLL: Duration = Duration::from_secs(30);

/// Sends a value whenever one of these paths, or a file that matches one of these patterns, may have changed, until
/// `stop`. The first value comes as soon as the folders are watched, for changes before that. A folder that cannot be
/// watched is only polled.
pub(super) async fn watch(watched: Vec<PathBuf>, changed: mpsc::Sender<()>, stop: CancellationToken) {
    let (events, mut noticed) = mpsc::channel(1);
    let folders = by_folder(&watched).into_iter();
    let _watchers: Vec<_> = folders.filter_map(|(folder, names)| watcher(&folder, names, events.clone())).collect();
    while changed.send(()).await.is_ok() {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = noticed.recv() => settle(&mut noticed).await,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Names and name patterns of the files in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names(Vec<glob::Pattern>);

/// Groups the watched names by folder. A folder whose path is itself a pattern is not watched: the poll finds the new
/// files there.
fn by_folder(watched: &[PathBuf]) -> BTreeMap<PathBuf, Names> {
    let mut folders = BTreeMap::new();
    for path in watched {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        if folder.as_os_str().to_string_lossy().contains(['*', '?', '[']) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A name that is not a valid pattern matches only itself.
        let name = glob::Pattern::new(&name).or_else(|_| glob::Pattern::new(&glob::Pattern::escape(&name)));
        folders.entry(folder).or_insert_with(|| Names(Vec::new())).0.extend(name);
    }
    folders
}

impl Names {
    /// Returns true if an event may be about a file of the configuration.
    fn concern(&self, event: &notify::Event, folder: &Path) -> bool {
        if matches!(event.kind, EventKind::Access(_)) {
            return false;
        }
        // Lost events may have been about any file.
        event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| self.concern_path(path, folder))
    }

    /// Returns true if the path may be a file of the configuration. So may every symbolic link: a configuration file
    /// may lead through it, as with the `..data` of Kubernetes.
    fn concern_path(&self, path: &Path, folder: &Path) -> bool {
        let matches = |name: &OsStr| self.0.iter().any(|pattern| pattern.matches(&name.to_string_lossy()));
        path == folder || path.file_name().is_none_or(matches) || path.is_symlink()
    }
}

/// Waits until no event comes for `QUIET`, but for at most `PATIENCE`.
async fn settle(noticed: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, noticed.recv()).await {} };
    let _ = tokio::time::timeout(PATIENCE, quiet).await;
}

fn watcher(folder: &Path, names: Names, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let failed = |error: notify::Error| {
        tracing::warn!(folder = %folder.display(), %error, "the folder cannot be watched; it is read every 30 s");
    };
    folder_watcher(folder, names, events).map_err(failed).ok()
}

/// Creates a watcher of the folder, not of the file: the rename of an editor or a swapped symbolic link replaces the
/// file, and a watch on the old file would get no further event.
fn folder_watcher(folder: &Path, names: Names, events: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let place = folder.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide an event.
        if event.is_ok_and(|event| !names.concern(&event, &place)) {
            return;
        }
        // If the channel is full, a value is waiting already.
        let _ = events.try_send(());
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn busy_folder_delays_the_read_by_two_seconds() {
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

    struct Watched {
        folder: tempfile::TempDir,
        changed: mpsc::Receiver<()>,
        stop: CancellationToken,
        watching: tokio::task::JoinHandle<()>,
    }

    impl Watched {
        /// Watches `sync.yaml`, which exists, and `*.yml`.
        async fn begin(make: impl FnOnce(&Path)) -> Self {
            let folder = tempfile::tempdir().unwrap();
            make(&folder.path().join("sync.yaml"));
            let (sender, mut changed) = mpsc::channel(1);
            let stop = CancellationToken::new();
            let watched = ["sync.yaml", "*.yml"].map(|name| folder.path().join(name)).into();
            let watching = tokio::spawn(watch(watched, sender, stop.clone()));
            changed.recv().await.expect("it watches from now on");
            Self { folder, changed, stop, watching }
        }

        async fn notice(mut self) {
            tokio::time::timeout(Duration::from_secs(20), self.changed.recv()).await.expect("noticed").expect("open");
            self.stop.cancel();
            self.watching.await.unwrap();
        }
    }

    fn old(file: &Path) {
        std::fs::write(file, "old").unwrap();
    }

    async fn assert_reported(write: impl FnOnce(&Path)) {
        let watched = Watched::begin(old).await;
        write(&watched.folder.path().join("sync.yaml"));
        watched.notice().await;
    }

    #[tokio::test]
    async fn edit_in_place_is_reported() {
        assert_reported(|file| std::fs::write(file, "new").unwrap()).await;
    }

    #[tokio::test]
    async fn file_replaced_by_rename_is_reported() {
        assert_reported(|file| {
            std::fs::write(file.with_extension("tmp"), "new").unwrap();
            std::fs::rename(file.with_extension("tmp"), file).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn new_file_that_matches_an_include_is_reported() {
        assert_reported(|file| std::fs::write(file.with_file_name("team.yml"), "new").unwrap()).await;
    }

    /// Kubernetes ConfigMap: `sync.yaml` points into `..data`, which points into the folder of one version.
    #[tokio::test]
    async fn swapped_configmap_link_is_reported() {
        use std::os::unix::fs::symlink;
        let version = |folder: &Path, name: &str| {
            std::fs::create_dir(folder.join(name)).unwrap();
            std::fs::write(folder.join(name).join("sync.yaml"), name).unwrap();
            symlink(name, folder.join("..data_tmp")).unwrap();
            std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        };
        let watched = Watched::begin(|file| {
            version(file.parent().unwrap(), "..1");
            symlink("..data/sync.yaml", file).unwrap();
        })
        .await;
        version(watched.folder.path(), "..2");
        assert_eq!(std::fs::read_to_string(watched.folder.path().join("sync.yaml")).unwrap(), "..2");
        watched.notice().await;
    }

    #[test]
    fn events_of_other_files_are_ignored() {
        use notify::event::{AccessKind, CreateKind, DataChange, Flag, ModifyKind, RemoveKind};
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        let names = by_folder(&[place.join("sync.yaml"), place.join("*.yml")]).remove(place).unwrap();
        let concern = |kind, name: &str| names.concern(&notify::Event::new(kind).add_path(place.join(name)), place);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for name in ["transship.log", "journal.db", "journal.db-wal", "sync.yaml~", ".sync.yaml.swp", "notes.yaml"] {
            for kind in [written, EventKind::Create(CreateKind::File), EventKind::Remove(RemoveKind::File)] {
                assert!(!concern(kind, name), "{name}");
            }
        }
        for name in ["sync.yaml", "team.yml"] {
            assert!(concern(written, name) && concern(EventKind::Remove(RemoveKind::File), name), "{name}");
            assert!(!concern(EventKind::Access(AccessKind::Any), name), "{name}");
        }
        assert!(concern(EventKind::Remove(RemoveKind::Folder), ""), "the folder itself");
        let lost = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan).add_path(place.join("transship.log"));
        assert!(names.concern(&lost, place));
    }

    #[test]
    fn folder_of_several_names_is_watched_once() {
        let folders = by_folder(&["sync.yaml", "conf.d/*.yaml", "conf.d/a[.yml", "*/x.yaml"].map(PathBuf::from));
        assert_eq!(folders.keys().collect::<Vec<_>>(), [Path::new("."), Path::new("conf.d")]);
        let conf = &folders[Path::new("conf.d")].0;
        assert!(conf[0].matches("b.yaml") && !conf[0].matches("b.yml") && conf[1].matches("a[.yml"));
    }
}
