//! State of the main loop: entries, timetable, queue and runs, with the services that the runs use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::configuration_content::{ConfigurationContent, certificate_paths};
use super::journal_probe::JournalProbe;
use super::paused_entries::PausedEntries;
use super::pruning::JournalPruning;
use super::push_debounce::PushDebounce;
use super::run_queue::RunQueue;
use super::run_waiters::RunWaiters;
use crate::config::{self, Config, Entry};
use crate::copy::Copier;
use crate::daemon::notifications::notices::Notices;
use crate::daemon::status::state::DaemonState;
use crate::daemon::systemd::Systemd;
use crate::daemon::watch as watcher;
use crate::journal::{Journal, JournalError};
use crate::registry::Options;
use crate::schedule::{Deferred, Setbacks, Timetable, Timing, jitter_of};
use crate::sync::{Endpoints, Engine, RunObserver, RunReport, Stop};

/// Longest time between two iterations of the loop. The status port reports the loop as dead after a minute.
pub(super) const ITERATION: Duration = Duration::from_secs(1);

/// Longest time that the loop waits for the journal to record or to answer about one command or one edit. It is well
/// below the minute after which the loop counts as dead.
pub(super) const JOURNAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Environment from which `${NAME}` is expanded.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send>;

/// State of the loop.
pub(super) struct Service {
    pub(super) path: PathBuf,
    pub(super) environment: Environment,
    pub(super) config: Config,
    /// Copy of the configuration for the receiver of push events.
    pub(super) in_force: watch::Sender<Arc<Config>>,
    /// Content that was last read, valid or not.
    pub(super) last_content: ConfigurationContent,
    /// Watched paths and patterns. Dropping the guard ends the watch.
    pub(super) watching: Option<(Vec<PathBuf>, DropGuard)>,
    /// Channel with a value for each possible edit.
    pub(super) edits: mpsc::Sender<()>,
    pub(super) entries: Arc<Vec<Arc<Entry>>>,
    pub(super) engine: Engine,
    pub(super) timetable: Timetable,
    pub(super) setbacks: Setbacks,
    /// Entries with tags that wait until their source may be read again.
    pub(super) deferred: Deferred,
    /// Entries that are due and wait for one of the `entries_at_once` slots.
    pub(super) queue: RunQueue,
    pub(super) pauses: PausedEntries,
    /// Callers that wait for the end of a run.
    pub(super) run_waiters: RunWaiters,
    pub(super) running: BTreeMap<String, Stop>,
    /// Running entries whose run is limited to some tags.
    pub(super) limited: BTreeSet<String>,
    /// Entries that received a push a moment ago.
    pub(super) push_debounce: PushDebounce,
    /// Running entries that are to resume under another configuration than the one with which they started.
    pub(super) renewed: BTreeSet<String>,
    pub(super) runs: JoinSet<RunReport>,
    /// Entry of each task, for a task that breaks down and cannot name it.
    pub(super) tasks: HashMap<tokio::task::Id, String>,
    pub(super) observer: RunObserver,
    pub(super) notices: Notices,
    pub(super) state: DaemonState,
    pub(super) journal_pruning: JournalPruning,
    pub(super) journal_probe: JournalProbe,
    pub(super) systemd: Systemd,
}

impl Service {
    /// Creates the state before anything is read from the journal. `edits` reports possible edits of the
    /// configuration.
    pub(super) fn new(
        path: PathBuf,
        config: Config,
        journal: Journal,
        environment: Environment,
        observer: RunObserver,
        state: DaemonState,
        edits: mpsc::Sender<()>,
    ) -> Self {
        let engine = Engine {
            copier: Copier::new(config.daemon.memory),
            endpoints: Arc::new(
                Endpoints::new(config.registries.clone(), Options::unlisted(&environment))
                    .within(config.daemon.bandwidth.clone()),
            ),
            journal: Some(journal.clone()),
        };
        let notices = Notices::new(journal, path.display().to_string(), &config, state.metrics());
        let mut service = Self {
            last_content: ConfigurationContent::default(),
            watching: None,
            edits,
            path,
            environment,
            entries: share_entries(&config),
            in_force: watch::channel(Arc::new(config.clone())).0,
            config,
            engine,
            timetable: Timetable::new(),
            setbacks: Setbacks::default(),
            deferred: Deferred::default(),
            queue: RunQueue::default(),
            pauses: PausedEntries::default(),
            run_waiters: RunWaiters::default(),
            running: BTreeMap::new(),
            limited: BTreeSet::new(),
            push_debounce: PushDebounce::default(),
            renewed: BTreeSet::new(),
            runs: JoinSet::new(),
            tasks: HashMap::new(),
            observer,
            notices,
            state,
            journal_pruning: JournalPruning::new(Utc::now()),
            journal_probe: JournalProbe::default(),
            systemd: Systemd::from_environment(),
        };
        service.last_content = service.read_content().with_certificates_of(&service.config);
        service
    }

    /// Returns the current content of all files that the configuration is read from, and watches these files from now
    /// on.
    pub(super) fn read_content(&mut self) -> ConfigurationContent {
        let Some((files, mut paths)) = config::content(&self.path, &*self.environment) else {
            return ConfigurationContent::read(None, &self.config);
        };
        paths.extend(certificate_paths(&self.config));
        if self.watching.as_ref().is_none_or(|(watched, _)| *watched != paths) {
            let watching = CancellationToken::new();
            tokio::spawn(watcher::watch(paths.clone(), self.edits.clone(), watching.clone()));
            self.watching = Some((paths, watching.drop_guard()));
        }
        ConfigurationContent::read(Some(files), &self.config)
    }

    /// Returns the last scheduled run of each entry that is new to the timetable and ever had one.
    pub(super) async fn last_firings(&self) -> Result<BTreeMap<String, DateTime<Utc>>, JournalError> {
        let known: BTreeSet<&str> = self.timetable.names().collect();
        let mut last = BTreeMap::new();
        for name in self.entries.iter().map(|entry| entry.name.as_str()).filter(|name| !known.contains(name)) {
            let Some(journal) = &self.engine.journal else { break };
            last.extend(journal.last_scheduled(name, Utc::now()).await?.map(|at| (name.to_owned(), at)));
        }
        Ok(last)
    }

    /// Sets the timetable to the entries in force. `last` shows the runs that a new entry missed; an entry without it
    /// waits for its next scheduled run.
    pub(super) fn set_timetable(&mut self, last: &BTreeMap<String, DateTime<Utc>>, now: DateTime<Utc>) {
        let gone: Vec<String> =
            self.timetable.names().filter(|name| !self.has_entry(name)).map(str::to_owned).collect();
        for name in gone {
            self.timetable.remove(&name);
        }
        for entry in self.entries.iter() {
            let name = entry.name.as_str();
            let jitter = jitter_of(name, entry.jitter);
            let timing = Timing { schedule: entry.schedule.clone(), timezone: entry.timezone, jitter };
            self.timetable.set(name, timing, last.get(name).copied(), now);
        }
    }

    /// Returns true if an entry in force has this name.
    pub(super) fn has_entry(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name.as_str() == name)
    }
}

/// Returns the entries of a configuration in the form that runs share.
pub(super) fn share_entries(config: &Config) -> Arc<Vec<Arc<Entry>>> {
    Arc::new(config.entries.iter().cloned().map(Arc::new).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::status::{Metrics, Snapshot};

    /// Returns a service with one entry, `app`, whose source and target are layouts in the folder.
    pub(in crate::daemon::service) async fn service(folder: &std::path::Path, journal: &Journal) -> Service {
        let layout = |name: &str| format!("oci-layout:{}", folder.join(name).display());
        let entry = format!("{{name: app, source: \"{}\", target: \"{}\"}}", layout("a"), layout("b"));
        let config =
            crate::config::parse("sync.yaml", &format!("version: 1\nsync: [{entry}]\n"), &|_| Some("/tmp".into()));
        let (sender, _) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let path = folder.join("sync.yaml");
        let state = DaemonState::new(&path, journal, sender, Arc::new(Metrics::new("0", Utc::now()))).await.unwrap();
        let (front, _) = RunObserver::new();
        Service::new(path, config.unwrap(), journal.clone(), Box::new(|_| None), front, state, mpsc::channel(1).0)
    }
}
