//! Watcher of the configuration files. The watcher reports that a file may have changed:
//! - after an event of the file's folder;
//! - every 30 s, because some file systems send no events.
//!
//! The watcher does not read the files. After a report, the daemon reads the files and compares their content with the
//! content that it read before.
//!
//! The folder may also contain a log file, the journal or an image layout. The watcher ignores the events of such
//! files. Otherwise each line in the log file would cause an event, and each event could cause the next log line.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Time without events after which a change is reported. Editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(250);

/// Maximum time from an event to its report, for files that change all the time.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Interval between two reports if there are no events.
const POLL: Duration = Duration::from_secs(30);

/// Sends a value whenever a watched file may have changed, until `stop` is cancelled. `watched` contains paths and
/// patterns. The first value is sent as soon as the folders are watched, because a file may have changed before. If a
/// folder cannot be watched, its files are only polled.
pub(super) async fn watch(watched: Vec<PathBuf>, changed: mpsc::Sender<()>, stop: CancellationToken) {
    let (events, mut arrived) = mpsc::channel(1);
    let folders = by_folder(&watched).into_iter();
    let _watchers: Vec<_> = folders.filter_map(|(folder, names)| watcher(&folder, names, events.clone())).collect();
    while changed.send(()).await.is_ok() {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = arrived.recv() => wait_until_quiet(&mut arrived).await,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Names and name patterns of the files in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names(Vec<glob::Pattern>);

/// Groups the watched names by folder. A folder whose path is itself a pattern is not watched, only polled.
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
        // Events were lost, or the event names no file: any file may have changed.
        event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| self.concern_path(path, folder))
    }

    /// Returns true if the path may be a file of the configuration, is the folder itself, or is a symbolic link. A link
    /// counts because the path of a configuration file may lead through the link, such as `..data` in a Kubernetes
    /// volume.
    fn concern_path(&self, path: &Path, folder: &Path) -> bool {
        let matches = |name: &OsStr| self.0.iter().any(|pattern| pattern.matches(&name.to_string_lossy()));
        path == folder || path.file_name().is_none_or(matches) || path.is_symlink()
    }
}

/// Waits until no event arrives for `QUIET`, but at most `MAX_DELAY`.
async fn wait_until_quiet(arrived: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, arrived.recv()).await {} };
    let _ = tokio::time::timeout(MAX_DELAY, quiet).await;
}

fn watcher(folder: &Path, names: Names, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let failed = |error: notify::Error| {
        tracing::warn!(
            folder = %folder.display(),
            %error,
            "the folder cannot be watched; its files are read every 30 s"
        );
    };
    folder_watcher(folder, names, events).map_err(failed).ok()
}

/// Creates a watcher of the folder instead of the file. If an editor saves by renaming, or if a symbolic link is
/// changed, the path leads to a new file. A watch on the old file would get no further events.
fn folder_watcher(folder: &Path, names: Names, events: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let watched = folder.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may hide an event.
        if event.is_ok_and(|event| !names.concern(&event, &watched)) {
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
        let (sender, mut arrived) = mpsc::channel(1);
        let busy_sender = tokio::spawn(async move {
            while sender.send(()).await.is_ok() {
                tokio::time::sleep(QUIET / 2).await;
            }
        });
        let started = tokio::time::Instant::now();
        wait_until_quiet(&mut arrived).await;
        assert_eq!(started.elapsed(), MAX_DELAY);
        drop(arrived);
        busy_sender.await.unwrap();
    }

    struct Watched {
        folder: tempfile::TempDir,
        changed: mpsc::Receiver<()>,
        stop: CancellationToken,
        watching: tokio::task::JoinHandle<()>,
    }

    impl Watched {
        /// Watches `sync.yaml`, which exists, and `*.yml`.
        async fn start(make: impl FnOnce(&Path)) -> Self {
            let folder = tempfile::tempdir().unwrap();
            make(&folder.path().join("sync.yaml"));
            let (sender, mut changed) = mpsc::channel(1);
            let stop = CancellationToken::new();
            let watched = ["sync.yaml", "*.yml"].map(|name| folder.path().join(name)).into();
            let watching = tokio::spawn(watch(watched, sender, stop.clone()));
            changed.recv().await.expect("the folder is watched");
            Self { folder, changed, stop, watching }
        }

        async fn assert_reported(mut self) {
            tokio::time::timeout(Duration::from_secs(20), self.changed.recv())
                .await
                .expect("a report in time")
                .expect("an open channel");
            self.stop.cancel();
            self.watching.await.unwrap();
        }
    }

    fn old(file: &Path) {
        std::fs::write(file, "old").unwrap();
    }

    async fn assert_reported(write: impl FnOnce(&Path)) {
        let watched = Watched::start(old).await;
        write(&watched.folder.path().join("sync.yaml"));
        watched.assert_reported().await;
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
        let watched = Watched::start(|file| {
            version(file.parent().unwrap(), "..1");
            symlink("..data/sync.yaml", file).unwrap();
        })
        .await;
        version(watched.folder.path(), "..2");
        assert_eq!(std::fs::read_to_string(watched.folder.path().join("sync.yaml")).unwrap(), "..2");
        watched.assert_reported().await;
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
