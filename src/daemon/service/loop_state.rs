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

/// Maximum time between two iterations of the loop. If the loop does not iterate for a minute, `/healthz` fails.
pub(super) const ITERATION: Duration = Duration::from_secs(1);

/// Maximum time that the loop waits for a response of the journal. This time must be well below the minute after which
/// `/healthz` fails.
pub(super) const JOURNAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Lookup of environment variables, to expand `${NAME}` in the configuration.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send>;

/// State of the loop.
pub(super) struct Service {
    pub(super) path: PathBuf,
    pub(super) environment: Environment,
    pub(super) config: Config,
    /// Channel that sends the configuration in force to the port for push events.
    pub(super) in_force: watch::Sender<Arc<Config>>,
    /// Content of the files at the last read, even if the configuration was invalid.
    pub(super) last_content: ConfigurationContent,
    /// Watched paths and patterns of files. Dropping the guard ends the watch.
    pub(super) watching: Option<(Vec<PathBuf>, DropGuard)>,
    /// Channel by which the watcher reports possible edits.
    pub(super) edits: mpsc::Sender<()>,
    pub(super) entries: Arc<Vec<Arc<Entry>>>,
    pub(super) engine: Engine,
    pub(super) timetable: Timetable,
    pub(super) setbacks: Setbacks,
    /// Entries with deferred tags, and the time at which each of these entries resumes.
    pub(super) deferred: Deferred,
    /// Runs that are due and wait for one of the `entries_at_once` slots.
    pub(super) queue: RunQueue,
    pub(super) pauses: PausedEntries,
    /// Callers that wait for the end of a run.
    pub(super) run_waiters: RunWaiters,
    /// Signals that stop the runs under way, by entry.
    pub(super) running: BTreeMap<String, Stop>,
    /// Entries with a run under way that is limited to some tags.
    pub(super) limited: BTreeSet<String>,
    /// Pushes of the last second, by entry.
    pub(super) push_debounce: PushDebounce,
    /// Entries whose run is being stopped and must resume. When the stopped run ends, the loop queues a new run. The
    /// run was stopped by a change of the entry's configuration, or by a pause that has ended.
    pub(super) renewed: BTreeSet<String>,
    pub(super) runs: JoinSet<RunReport>,
    /// Name of the entry of each run's task. If a task panics, the task returns no report, and the loop finds the name
    /// here.
    pub(super) tasks: HashMap<tokio::task::Id, String>,
    pub(super) observer: RunObserver,
    pub(super) notices: Notices,
    pub(super) state: DaemonState,
    pub(super) journal_pruning: JournalPruning,
    pub(super) journal_probe: JournalProbe,
    pub(super) systemd: Systemd,
}

impl Service {
    /// Creates the state. [`Service::resume_from_journal`] adds the state from the journal. The watcher of the files
    /// sends possible edits to `edits`.
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

    /// Returns the current content of the configuration files and of the certificate files. Starts to watch these
    /// files.
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

    /// Returns the time of the last scheduled run of each entry that is not yet in the timetable. Entries that never
    /// had a scheduled run are omitted.
    pub(super) async fn last_firings(&self) -> Result<BTreeMap<String, DateTime<Utc>>, JournalError> {
        let present: BTreeSet<&str> = self.timetable.names().collect();
        let mut last = BTreeMap::new();
        for name in self.entries.iter().map(|entry| entry.name.as_str()).filter(|name| !present.contains(name)) {
            let Some(journal) = &self.engine.journal else { break };
            last.extend(journal.last_scheduled(name, Utc::now()).await?.map(|at| (name.to_owned(), at)));
        }
        Ok(last)
    }

    /// Sets the timetable to the entries in force. `last` contains the time of the last scheduled run of each new
    /// entry. If a new entry missed scheduled runs since this time, one run catches up. If a new entry is not in
    /// `last`, the entry waits for its next scheduled run.
    pub(super) fn set_timetable(&mut self, last: &BTreeMap<String, DateTime<Utc>>, now: DateTime<Utc>) {
        let removed: Vec<String> =
            self.timetable.names().filter(|name| !self.has_entry(name)).map(str::to_owned).collect();
        for name in removed {
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

/// Returns the entries of a configuration in reference-counted pointers, because runs share the entries.
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
        let (observer, _) = RunObserver::new();
        Service::new(path, config.unwrap(), journal.clone(), Box::new(|_| None), observer, state, mpsc::channel(1).0)
    }
}
