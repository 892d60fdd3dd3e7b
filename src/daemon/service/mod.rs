//! Main loop of the daemon: it starts due runs, applies their events, follows edits of the configuration, updates the
//! snapshot for the status port, and ends cleanly.
//!
//! The caller owns the signals, the listener and the journal. The loop owns all other state and shares none of it.

mod configuration_content;
mod journal_probe;
mod paused_entries;
mod pauses;
mod pruning;
mod push_debounce;
mod reload;
mod requests;
mod run_queue;
pub(super) mod run_waiters;
mod shutdown;
mod start;
#[cfg(test)]
mod start_tests;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Commands;
use super::notifications::notices::Notices;
use super::status::state::State;
use super::systemd::Systemd;
use crate::config::{Config, Entry};
use crate::copy::Copier;
use crate::journal::{Journal, JournalError, Trigger};
use crate::oci::Digest;
use crate::registry::Options;
use crate::schedule::{Deferred, Setbacks, Timetable, Timing, jitter_of};
use crate::status::{Metrics, Snapshot};
use crate::sync::recovery::recover_at_start;
use crate::sync::run::BROKE_DOWN;
use crate::sync::{Endpoints, Engine, RunObserver, RunOutcome, RunReport, Stop};
use configuration_content::Content;
use journal_probe::{Found, Probing};
use paused_entries::Pauses;
use pruning::Pruning;
use push_debounce::Gathering;
use run_queue::{Due, Queue};
use run_waiters::Awaited;
use shutdown::LAST_WAIT;

/// Longest time between two iterations of the loop. The status port reports the loop as dead after a minute.
const TURN: Duration = Duration::from_secs(1);

/// Longest time that the loop waits for the journal to record or to answer about one command or one edit. It is well
/// below the minute after which the loop counts as dead.
const WITHIN: Duration = Duration::from_secs(10);

/// Environment from which `${NAME}` is expanded.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Arguments of the daemon's start.
pub struct Setup {
    /// Configuration file, which is read again when it changes.
    pub path: PathBuf,
    /// Content of that file and of the files that it includes, as it was right before it was read:
    /// [`crate::config::content`]. The daemon applies any edit since then.
    pub content: Option<Digest>,
    /// Configuration that the file contains.
    pub config: Config,
    /// Journal that records the runs.
    pub journal: Journal,
    /// Environment from which `${NAME}` is expanded.
    pub environment: Environment,
    /// Snapshots for the status port.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Counters of the loop.
    pub metrics: Arc<Metrics>,
    /// Channel with a value for each request to read the file again (SIGHUP).
    pub reload: mpsc::Receiver<()>,
    /// Commands that arrive while the daemon runs.
    pub commands: Commands,
    /// Configuration in force, for the receiver of push events.
    pub in_force: watch::Sender<Arc<Config>>,
    /// Token that is cancelled when the daemon is to end.
    pub shutdown: CancellationToken,
}

/// State of the loop.
struct Service {
    path: PathBuf,
    environment: Environment,
    config: Config,
    /// Copy of the configuration for the receiver of push events.
    in_force: watch::Sender<Arc<Config>>,
    /// Content that was last read, valid or not.
    looked_at: Content,
    /// Watched paths and patterns. Dropping the guard ends the watch.
    watching: Option<(Vec<PathBuf>, DropGuard)>,
    /// Channel with a value for each possible edit.
    edits: mpsc::Sender<()>,
    entries: Arc<Vec<Arc<Entry>>>,
    engine: Engine,
    timetable: Timetable,
    setbacks: Setbacks,
    /// Entries with tags that wait until their source may be read again.
    deferred: Deferred,
    /// Entries that are due and wait for one of the `entries_at_once` slots.
    waiting: Queue,
    pauses: Pauses,
    /// Callers that wait for the end of a run.
    awaited: Awaited,
    running: BTreeMap<String, Stop>,
    /// Running entries whose run is limited to some tags.
    confined: BTreeSet<String>,
    /// Entries that received a push a moment ago.
    gathering: Gathering,
    /// Running entries that are to resume under another configuration than the one with which they started.
    renewed: BTreeSet<String>,
    runs: JoinSet<RunReport>,
    /// Entry of each task, for a task that breaks down and cannot name it.
    tasks: HashMap<tokio::task::Id, String>,
    front: RunObserver,
    notices: Notices,
    state: State,
    pruning: Pruning,
    probing: Probing,
    systemd: Systemd,
}

/// Runs until `shutdown`, then drains the runs within the configured grace.
///
/// # Errors
/// Returns an error if the journal cannot report the earlier runs. A later error of the journal is a problem of the
/// runs.
pub async fn serve(setup: Setup) -> Result<(), JournalError> {
    let Setup { path, content, config, journal, environment, snapshots, metrics, in_force, shutdown, .. } = setup;
    let (mut reload, mut commands) = (setup.reload, setup.commands);
    let (front, mut events) = RunObserver::new();
    let (edit, mut edits) = mpsc::channel(1);
    let state = State::new(&path, &journal, snapshots, metrics).await?;
    let mut service = Service::new(path, config, journal, environment, front, state, edit);
    service.in_force = in_force;
    service.looked_at = service.looked_at.having_files(content);
    service.take_up().await?;
    // This task runs beside the loop, since a target may take long to respond.
    let recovering = tokio::spawn(recover_at_start(service.engine.clone(), service.entries.clone()));
    let notices = service.notices.clone();
    let delivering = notices.deliver();
    service.systemd.ready(&service.state.summary());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %service.path.display(),
        entries = service.entries.len(),
        journal = %service.config.daemon.journal.display(),
        "started"
    );
    loop {
        service.start_due(Utc::now());
        service.turn().await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some((entry, event)) = events.recv() => service.state.happened(entry, event),
            Some(ended) = service.runs.join_next() => service.ended(ended),
            Some(()) = edits.recv() => service.look_again(false).await,
            Some(()) = reload.recv() => service.look_again(true).await,
            asked = commands.next() => service.asked(asked).await,
            () = tokio::time::sleep(TURN) => {}
        }
    }
    recovering.abort();
    // The daemon answers any later command with the refusal that it is ending.
    drop(commands);
    service.drain(events).await;
    notices.close(delivering, LAST_WAIT).await;
    tracing::info!("ended");
    Ok(())
}

impl Service {
    fn new(
        path: PathBuf,
        config: Config,
        journal: Journal,
        environment: Environment,
        front: RunObserver,
        state: State,
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
            looked_at: Content::default(),
            watching: None,
            edits,
            path,
            environment,
            entries: shared(&config),
            in_force: watch::channel(Arc::new(config.clone())).0,
            config,
            engine,
            timetable: Timetable::new(),
            setbacks: Setbacks::default(),
            deferred: Deferred::default(),
            waiting: Queue::default(),
            pauses: Pauses::default(),
            awaited: Awaited::default(),
            running: BTreeMap::new(),
            confined: BTreeSet::new(),
            gathering: Gathering::default(),
            renewed: BTreeSet::new(),
            runs: JoinSet::new(),
            tasks: HashMap::new(),
            front,
            notices,
            state,
            pruning: Pruning::begun(Utc::now()),
            probing: Probing::default(),
            systemd: Systemd::of_environment(),
        };
        service.looked_at = service.content().having_read(&service.config);
        service
    }

    /// Fills the timetable from the journal: a missed run is caught up once, and an interrupted or deferred run
    /// resumes.
    async fn take_up(&mut self) -> Result<(), JournalError> {
        let now = Utc::now();
        let last = self.last_firings().await?;
        self.set_timetable(&last, now);
        last.values().copied().chain(self.state.last_ends()).for_each(|instant| self.setbacks.record_instant(instant));
        self.follow_clock(now);
        self.take_up_pauses(now).await?;
        let interrupted = self.state.interrupted();
        for entry in self.entries.iter().filter(|entry| interrupted.contains(entry.name.as_str())) {
            if self.pauses.owe(entry.name.as_str()) {
                continue;
            }
            tracing::info!(entry = %entry.name, "the last run was interrupted; it goes on");
            self.waiting.push(Due { entry: entry.name.to_string(), trigger: Trigger::Start, only: None });
        }
        for (entry, ended, until) in self.state.deferred().filter(|(entry, ..)| !interrupted.contains(*entry)) {
            // If the clock was set back since then, the wait is as long as it was before.
            let ahead = (ended - now).max(TimeDelta::zero());
            self.deferred.set(entry, ended - ahead, until - ahead);
        }
        self.deferred.retain(|name| self.entries.iter().any(|entry| entry.name.as_str() == name));
        let on_start = self.entries.iter().filter(|entry| entry.on_start && !self.pauses.has(entry.name.as_str()));
        for entry in on_start {
            self.waiting.push(Due { entry: entry.name.to_string(), trigger: Trigger::Start, only: None });
        }
        for entry in self.entries.clone().iter() {
            self.back_off(entry.name.as_str());
        }
        self.state.loaded(&self.entries, &self.config.hosts(), &self.config.warnings, now);
        self.state.is_told_by(self.config.receivers().map(|(name, _)| name.as_str()));
        self.notices.configured(&self.config, now).await;
        Ok(())
    }

    /// Returns the last scheduled run of each entry that is new to the timetable and ever had one.
    async fn last_firings(&self) -> Result<BTreeMap<String, DateTime<Utc>>, JournalError> {
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
    fn set_timetable(&mut self, last: &BTreeMap<String, DateTime<Utc>>, now: DateTime<Utc>) {
        let gone: Vec<String> = self.timetable.names().filter(|name| !self.has(name)).map(str::to_owned).collect();
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

    fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name.as_str() == name)
    }

    fn ended(&mut self, ended: Result<RunReport, tokio::task::JoinError>) {
        match ended {
            Ok(report) => {
                self.tasks.retain(|_, entry| *entry != report.entry);
                self.running.remove(&report.entry);
                let was_whole = !self.confined.remove(&report.entry);
                self.state.ended(&report);
                if report.outcome == RunOutcome::Interrupted && self.has(&report.entry) {
                    self.pauses.owe(&report.entry);
                }
                let is_renewed = self.renewed.remove(&report.entry) && self.has(&report.entry);
                if is_renewed && report.outcome == RunOutcome::Interrupted && !self.pauses.has(&report.entry) {
                    self.waiting.push_first(Due {
                        entry: report.entry.clone(),
                        trigger: Trigger::Continued,
                        only: None,
                    });
                } else if was_whole {
                    self.awaited.ended(&report);
                }
                self.back_off(&report.entry);
                if let Some(until) = report.deferred_until().filter(|_| self.has(&report.entry)) {
                    self.deferred.set(&report.entry, report.ended, until);
                }
            }
            // A bug in a run ends neither the daemon nor the entry.
            Err(error) => {
                let entry = self.tasks.remove(&error.id());
                tracing::error!(entry, %error, "{BROKE_DOWN}");
                let Some(entry) = entry else { return };
                let (started, problems) = (Utc::now(), vec![BROKE_DOWN.to_owned()]);
                let (ended, outcome) = (started, RunOutcome::Failed);
                self.ended(Ok(RunReport {
                    entry,
                    run: None,
                    started,
                    ended,
                    outcome,
                    tags: Vec::new(),
                    problems,
                    in_doubt: Vec::new(),
                    left_behind: Vec::new(),
                    warnings: Vec::new(),
                }));
            }
        }
    }

    /// Updates, in one iteration, the readiness of the journal, the metrics of the registries, the snapshot and the
    /// watchdog. If many events come, it does not do so for each event.
    async fn turn(&mut self) {
        if !self.state.is_stale() {
            return;
        }
        if let Some(journal) = &self.engine.journal
            && let Some(Found { writable, bytes, problem }) = self.probing.turn(journal).await
        {
            self.state.journal_is(writable, bytes, problem);
        }
        let now = Utc::now();
        self.state.count_registries(&self.engine.endpoints.registries(), &self.engine.endpoints.clients());
        self.state.fire_next(|name| {
            let next = [self.timetable.next_firing(name, now), self.deferred.resumes_at(name)];
            next.map(|at| at.filter(|_| !self.pauses.has(name)))
        });
        self.state.paused(|name| self.pauses.get(name).map(|pause| (pause.since, pause.until)));
        self.state.wait(self.waiting.iter(), now);
        self.pruning.turn(now, self.config.daemon.keep_history, self.engine.journal.as_ref());
        self.state.publish(now);
        self.systemd.alive(self.state.news().as_deref());
    }
}

fn shared(config: &Config) -> Arc<Vec<Arc<Entry>>> {
    Arc::new(config.entries.iter().cloned().map(Arc::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::event::BlobCounts;
    use crate::journal::{Begun, RunEnd};
    use crate::sync::{RunOutcome, TagOutcome, TagReport};

    /// Returns a service with one entry, `app`, whose source and target are layouts in the folder.
    pub(super) async fn service(folder: &std::path::Path, journal: &Journal) -> Service {
        let layout = |name: &str| format!("oci-layout:{}", folder.join(name).display());
        let entry = format!("{{name: app, source: \"{}\", target: \"{}\"}}", layout("a"), layout("b"));
        let config =
            crate::config::parse("sync.yaml", &format!("version: 1\nsync: [{entry}]\n"), &|_| Some("/tmp".into()));
        let (sender, _) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let path = folder.join("sync.yaml");
        let state = State::new(&path, journal, sender, Arc::new(Metrics::new("0", Utc::now()))).await.unwrap();
        let (front, _) = RunObserver::new();
        Service::new(path, config.unwrap(), journal.clone(), Box::new(|_| None), front, state, mpsc::channel(1).0)
    }

    fn deferred(ended: DateTime<Utc>, until: DateTime<Utc>) -> RunReport {
        let tag = TagReport {
            source: "docker.io/library/app".into(),
            target: "prod.example/app".into(),
            tag: Some("v1".parse().unwrap()),
            digest: None,
            source_digest: None,
            outcome: TagOutcome::Deferred { until, reason: "the pull limit of docker.io".into() },
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        let (entry, outcome) = ("app".into(), RunOutcome::Deferred);
        RunReport {
            entry,
            run: Some(1),
            started: ended,
            ended,
            outcome,
            tags: vec![tag],
            problems: Vec::new(),
            in_doubt: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[tokio::test]
    async fn an_entry_with_tags_that_wait_goes_on_by_itself_at_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut service = service(folder.path(), &journal).await;
        let now = Utc::now();
        let until = now + TimeDelta::minutes(30);
        service.ended(Ok(deferred(now, until)));
        service.start_due(until - TimeDelta::seconds(1));
        assert!(service.running.is_empty());
        service.start_due(until + TimeDelta::minutes(8));
        assert!(service.running.contains_key("app"));
        service.runs.join_next().await.unwrap().unwrap();
        let history = journal.history(&crate::journal::HistoryFilter::default()).await.unwrap();
        assert_eq!(history[0].trigger, Trigger::Continued);
    }

    #[tokio::test]
    async fn a_run_that_breaks_down_leaves_its_entry_free_and_is_told_to_who_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut daemon = service(folder.path(), &journal).await;
        let (told, end) = tokio::sync::oneshot::channel();
        daemon.awaited.add("app".into(), told);
        daemon.track("app", Stop::default(), Trigger::Requested, async { panic!("a mistake") });
        assert!(daemon.is_under_way("app"));
        let ended = daemon.runs.join_next().await.unwrap();
        daemon.ended(ended);
        assert!(!daemon.is_under_way("app") && !daemon.state.is_running("app") && daemon.tasks.is_empty());
        let end = end.await.unwrap();
        assert_eq!((end.outcome, end.problem.as_deref()), (RunOutcome::Failed, Some(BROKE_DOWN)));
        daemon.run_now("app".into(), Trigger::Requested, None).unwrap();
        daemon.start_due(Utc::now());
        let ended = daemon.runs.join_next().await.unwrap().unwrap();
        assert_eq!(ended.outcome, RunOutcome::Failed, "there is no layout");
    }

    #[tokio::test]
    async fn what_waited_before_a_restart_goes_on_after_it_unless_a_person_began_it() {
        for (trigger, goes_on) in [(Trigger::Continued, true), (Trigger::Manual, false)] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let now = Utc::now();
            let report = deferred(now, now + TimeDelta::minutes(30));
            let Begun::Started(run) = journal.begin_run("app", trigger, now).await.unwrap() else { panic!("runs") };
            let end = RunEnd {
                outcome: report.journal_outcome(),
                tags: report.counts(),
                bytes: 0,
                error: report.first_problem(),
                deferred_until: report.deferred_until(),
            };
            journal.end_run(run, end, now).await.unwrap();
            let mut service = service(folder.path(), &journal).await;
            service.take_up().await.unwrap();
            assert_eq!(service.state.deferred().count(), usize::from(goes_on));
            service.start_due(now + TimeDelta::minutes(29));
            assert!(service.running.is_empty());
            service.start_due(now + TimeDelta::minutes(38));
            assert_eq!(service.running.contains_key("app"), goes_on, "{trigger:?}");
        }
    }
}
