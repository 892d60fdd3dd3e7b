//! The daemon's one loop: it starts due runs, takes in what they tell, follows edits of the configuration, keeps the
//! snapshot for the status port, and ends cleanly.
//!
//! The caller owns the signals, the listener and the journal; the loop owns all other state, and nothing of it is shared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

use super::awaited::Awaited;
use super::content::Content;
use super::control::Asked;
use super::gathering::Gathering;
use super::notices::Notices;
use super::pruning::Pruning;
use super::pauses::Pauses;
use super::queue::{Due, Queue};
use super::state::State;
use super::{
    Accepted, Command, Commands, Endpoints, Engine, Errand, Front, Happening, Only, Refusal, RunOutcome, RunReport,
    Stop, systemd, watch as watcher,
};
use crate::config::{self, Config, Entry, Problems};
use crate::copy::Copier;
use crate::journal::{Journal, JournalError, PauseRecord, Trigger};
use crate::registry::Options;
use crate::schedule::{Postponed, Timetable, Timing, backoff, jitter_of};
use crate::status::{Metrics, Snapshot};

/// How often the loop turns at least. The status port calls it dead after a minute.
const TURN: Duration = Duration::from_secs(1);

/// How often the journal is tried.
const PROBE: Duration = Duration::from_secs(15);

/// How long a journal that does not answer is waited for. Well below the minute after which the loop counts as dead.
const PROBED_WITHIN: Duration = Duration::from_secs(10);
/// How long the journal may take to write a pause down, while the loop waits.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// How long runs that were told to drop everything are waited for.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The environment that `${NAME}` is expanded from.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send>;

/// What the daemon is started with.
pub struct Setup {
    /// The configuration file, to be read again when it changes.
    pub path: PathBuf,
    /// What it says now.
    pub config: Config,
    /// Where runs are recorded.
    pub journal: Journal,
    /// The environment that `${NAME}` is expanded from.
    pub environment: Environment,
    /// What the status port reads.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// What the loop counts.
    pub metrics: Arc<Metrics>,
    /// A value for each wish to read the file again (SIGHUP).
    pub reload: mpsc::Receiver<()>,
    /// What it is asked for while it runs.
    pub commands: Commands,
    /// Who takes push events looks here for the configuration in force.
    pub in_force: watch::Sender<Arc<Config>>,
    /// Cancelled when the daemon is to end.
    pub shutdown: CancellationToken,
}

/// The loop's own things.
struct Service {
    path: PathBuf,
    environment: Environment,
    config: Config,
    /// A copy for who takes push events.
    in_force: watch::Sender<Arc<Config>>,
    /// What was last looked at, good or bad.
    looked_at: Content,
    /// The folders that are watched; none of them any more when the guard is dropped.
    watching: Option<(Vec<PathBuf>, DropGuard)>,
    /// A value for each edit that may have happened.
    edits: mpsc::Sender<()>,
    entries: Arc<Vec<Arc<Entry>>>,
    engine: Engine,
    timetable: Timetable,
    /// Entries with tags that wait until their source may be read again.
    postponed: Postponed,
    /// Due, and waiting for one of the `entries_at_once` places.
    waiting: Queue,
    pauses: Pauses,
    /// Who waits for the end of a run.
    awaited: Awaited,
    running: BTreeMap<String, Stop>,
    /// Of those, the ones that are about some tags only.
    confined: BTreeSet<String>,
    /// Pushed to a moment ago.
    gathering: Gathering,
    /// Of those, the ones that are to go on by another configuration than they began with.
    renewed: BTreeSet<String>,
    runs: JoinSet<RunReport>,
    front: Front,
    notices: Notices,
    state: State,
    pruning: Pruning,
    probed: Option<tokio::time::Instant>,
}

/// Runs until `shutdown`, then drains within the configured grace.
///
/// # Errors
/// Where the journal cannot tell what was done before; later trouble with it is a problem of the runs.
pub async fn serve(setup: Setup) -> Result<(), JournalError> {
    let Setup { path, config, journal, environment, snapshots, metrics, mut reload, mut commands, in_force, shutdown } =
        setup;
    let (front, mut happenings) = Front::new();
    let (edit, mut edits) = mpsc::channel(1);
    let state = State::new(&path, &journal, snapshots, metrics.clone()).await?;
    let mut service = Service::new(path, config, journal, environment, front, state, edit);
    service.in_force = in_force;
    service.take_up().await?;
    let notices = service.notices.clone();
    let delivering = notices.deliver(metrics);
    systemd::ready(&service.state.summary());
    loop {
        service.start_due(Utc::now());
        service.turn().await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some((entry, happening)) = happenings.recv() => service.state.happened(entry, happening),
            Some(ended) = service.runs.join_next() => service.ended(ended),
            Some(()) = edits.recv() => service.look_again(false).await,
            Some(()) = reload.recv() => service.look_again(true).await,
            asked = commands.next() => service.asked(asked).await,
            () = tokio::time::sleep(TURN) => {}
        }
    }
    // Who asks for something now is told that it ends.
    drop(commands);
    service.drain(happenings).await;
    notices.close(delivering, LAST_WAIT).await;
    Ok(())
}

impl Service {
    fn new(
        path: PathBuf,
        config: Config,
        journal: Journal,
        environment: Environment,
        front: Front,
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
        let notices = Notices::new(journal, path.display().to_string(), &config);
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
            postponed: Postponed::default(),
            waiting: Queue::default(),
            pauses: Pauses::default(),
            awaited: Awaited::default(),
            running: BTreeMap::new(),
            confined: BTreeSet::new(),
            gathering: Gathering::default(),
            renewed: BTreeSet::new(),
            runs: JoinSet::new(),
            front,
            notices,
            state,
            pruning: Pruning::begun(Utc::now()),
            probed: None,
        };
        service.looked_at = service.content().having_read(&service.config);
        service
    }

    /// What all that the configuration is read from says now. From now on the folders are watched in which its files are.
    fn content(&mut self) -> Content {
        let Some((files, folders)) = config::content(&self.path, &*self.environment) else {
            return Content::now(None, &self.config);
        };
        if self.watching.as_ref().is_none_or(|(watched, _)| *watched != folders) {
            let watching = CancellationToken::new();
            tokio::spawn(watcher::watch(folders.clone(), self.edits.clone(), watching.clone()));
            self.watching = Some((folders, watching.drop_guard()));
        }
        Content::now(Some(files), &self.config)
    }

    /// Fills the timetable from the journal: what was missed fires once, what was interrupted or postponed goes on.
    async fn take_up(&mut self) -> Result<(), JournalError> {
        let now = Utc::now();
        self.set_timetable(now).await?;
        self.take_up_pauses(now).await?;
        let interrupted = self.state.interrupted();
        for entry in self.entries.iter().filter(|entry| interrupted.contains(entry.name.as_str())) {
            if self.pauses.owe(entry.name.as_str()) {
                continue;
            }
            tracing::info!(entry = %entry.name, "the last run was interrupted; it goes on");
            self.waiting.push(Due { entry: entry.name.to_string(), trigger: Trigger::Start, only: None });
        }
        for (entry, ended, until) in self.state.postponed().filter(|(entry, ..)| !interrupted.contains(*entry)) {
            self.postponed.set(entry, ended, until);
        }
        self.postponed.retain(|name| self.entries.iter().any(|entry| entry.name.as_str() == name));
        let on_start = self.entries.iter().filter(|entry| entry.on_start && !self.pauses.has(entry.name.as_str()));
        for entry in on_start {
            self.waiting.push(Due { entry: entry.name.to_string(), trigger: Trigger::Start, only: None });
        }
        for entry in self.entries.clone().iter() {
            self.back_off(entry.name.as_str());
        }
        self.state.loaded(&self.entries, &self.config.hosts(), now);
        self.notices.configured(&self.config, now).await;
        Ok(())
    }

    /// Leaves an entry that keeps failing alone for a while. Whoever starts it by hand is not held up.
    fn back_off(&mut self, name: &str) {
        let (failures, Some(last)) = self.state.failures(name) else { return };
        let wait = backoff(failures);
        let until = last + wait;
        if wait.is_zero() || until <= Utc::now() {
            return;
        }
        let planned = self.timetable.next_firing(name, Utc::now());
        self.timetable.hold(name, until);
        if planned.is_some_and(|planned| planned <= until) {
            tracing::warn!(entry = name, failures, until = %until, "failed again and again: its firings until then are left out");
        }
    }

    async fn set_timetable(&mut self, now: DateTime<Utc>) -> Result<(), JournalError> {
        let gone: Vec<String> = self.timetable.names().filter(|name| !self.has(name)).map(str::to_owned).collect();
        for name in gone {
            self.timetable.remove(&name);
        }
        for entry in self.entries.clone().iter() {
            let name = entry.name.as_str();
            let last = match &self.engine.journal {
                Some(journal) => journal.last_scheduled(name).await?,
                None => None,
            };
            let jitter = jitter_of(name, entry.jitter);
            let timing = Timing { schedule: entry.schedule.clone(), timezone: entry.timezone, jitter };
            self.timetable.set(name, timing, last, now);
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name.as_str() == name)
    }

    /// Queues what is due and starts what has a place. An entry that runs or waits already is not queued again.
    fn start_due(&mut self, now: DateTime<Utc>) {
        for name in self.pauses.over(now) {
            tracing::info!(entry = name, "its pause is over");
            self.end_pause(&name);
        }
        for firing in self.timetable.due(now) {
            let name = firing.entry;
            if self.pauses.has(&name) {
                tracing::info!(entry = name, scheduled_at = %firing.scheduled_at, "paused; this firing is left out");
                continue;
            }
            if self.is_under_way(&name) {
                tracing::info!(entry = name, "due while it still runs; this firing is left out");
                continue;
            }
            if firing.missed {
                tracing::info!(entry = name, scheduled_at = %firing.scheduled_at, "a missed firing is made up for");
            }
            let trigger = Trigger::Schedule { scheduled_at: firing.scheduled_at };
            self.waiting.push(Due { entry: name, trigger, only: None });
        }
        for name in self.postponed.due(now) {
            if !self.pauses.owe(&name) && !self.is_under_way(&name) {
                tracing::info!(entry = name, "goes on with the tags that wait");
                self.waiting.push(Due { entry: name, trigger: Trigger::Continued, only: None });
            }
        }
        for (entry, only) in self.gathering.due(tokio::time::Instant::now()) {
            self.waiting.push(Due { entry, trigger: Trigger::Pushed, only });
        }
        while self.running.len() < self.config.daemon.entries_at_once {
            let Some(due) = self.waiting.pop(|entry| !self.running.contains_key(entry)) else { break };
            self.start(&due.entry, due.trigger, due.only);
        }
    }

    async fn asked(&mut self, Asked { command, answer, ended }: Asked) {
        let entry = command.entry().to_owned();
        let answered = match command {
            Command::Run { entry, trigger, only } => self.run_now(entry, trigger, only),
            Command::Pause { entry, until } => self.pause(&entry, until, Utc::now()).await,
            Command::Resume { entry } => self.resume(&entry, Utc::now()).await,
        };
        if let (Ok(_), Some(ended)) = (&answered, ended) {
            self.awaited.add(entry, ended);
        }
        // Who asked may have gone.
        let _ = answer.send(answered);
    }

    /// Queues a run that somebody asks for. Neither its schedule nor a back-off holds it up.
    fn run_now(&mut self, entry: String, trigger: Trigger, only: Option<Only>) -> Result<Accepted, Refusal> {
        if !self.has(&entry) {
            return Err(Refusal::UnknownEntry(entry));
        }
        if self.pauses.has(&entry) {
            return Err(Refusal::Paused(entry));
        }
        if trigger == Trigger::Pushed {
            // A run under way may have looked at the tag before it was pushed.
            let was_there = self.gathering.add(entry, only, tokio::time::Instant::now());
            return Ok(if was_there { Accepted::WaitsAlready } else { Accepted::Queued });
        }
        if self.runs_whole(&entry) {
            return Ok(Accepted::RunsAlready);
        }
        if self.waiting.has_whole(&entry) {
            return Ok(Accepted::WaitsAlready);
        }
        tracing::debug!(entry, trigger = trigger.word(), "a run is asked for");
        self.waiting.push(Due { entry, trigger, only });
        Ok(Accepted::Queued)
    }

    /// The pauses that last go on; what was to fire in those that are over is not made up for.
    async fn take_up_pauses(&mut self, now: DateTime<Utc>) -> Result<(), JournalError> {
        let Some(journal) = &self.engine.journal else { return Ok(()) };
        let records = journal.pauses().await?;
        self.pauses = Pauses::of(&records, now);
        for (record, over) in records.iter().filter_map(|record| Some((record, record.over(now)?))) {
            self.timetable.hold(&record.entry, over);
        }
        Ok(())
    }

    /// Keeps an entry from beginning runs by itself. One under way finishes the tags that it is at; it goes on at the end of the
    /// pause, and so does one that waits for its place.
    async fn pause(
        &mut self,
        entry: &str,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Accepted, Refusal> {
        if !self.has(entry) {
            return Err(Refusal::UnknownEntry(entry.to_owned()));
        }
        let since = self.pauses.get(entry).map_or(now, |pause| pause.since);
        self.write_down(PauseRecord { entry: entry.to_owned(), since, until, ended: None }).await?;
        self.pauses.set(entry, since, until);
        let until = until.map_or_else(|| "it is resumed".to_owned(), |until| until.to_rfc3339());
        tracing::info!(entry, until, "paused: it begins no run by itself");
        if self.waiting.has_whole(entry) {
            self.waiting.retain(|waiting| waiting != entry);
            self.awaited.retain(|name| name != entry || self.running.contains_key(name));
            self.pauses.owe(entry);
        }
        if let Some(stop) = self.running.get(entry) {
            stop.drain.cancel();
        }
        Ok(Accepted::Paused)
    }

    /// Ends a pause, also that of an entry which the configuration has no longer.
    async fn resume(&mut self, entry: &str, now: DateTime<Utc>) -> Result<Accepted, Refusal> {
        let Some(pause) = self.pauses.get(entry) else {
            let known = self.has(entry);
            return if known { Ok(Accepted::NotPaused) } else { Err(Refusal::UnknownEntry(entry.to_owned())) };
        };
        let (since, until) = (pause.since, pause.until);
        self.write_down(PauseRecord { entry: entry.to_owned(), since, until, ended: Some(now) }).await?;
        tracing::info!(entry, "resumed");
        // What was to fire until now is settled, though the loop may not have turned since.
        self.timetable.hold(entry, now);
        self.end_pause(entry);
        Ok(Accepted::Resumed)
    }

    fn end_pause(&mut self, entry: &str) {
        let owes = self.pauses.end(entry) == Some(true);
        if self.running.get(entry).is_some_and(|stop| stop.drain.is_cancelled()) {
            // It is told to end and has not yet: it goes on as one that was changed does.
            self.renewed.insert(entry.to_owned());
        } else if owes && self.has(entry) {
            tracing::info!(entry, "goes on where the pause stopped it");
            self.waiting.push(Due { entry: entry.to_owned(), trigger: Trigger::Continued, only: None });
        }
    }

    async fn write_down(&self, pause: PauseRecord) -> Result<(), Refusal> {
        let Some(journal) = &self.engine.journal else { return Ok(()) };
        match tokio::time::timeout(WRITTEN_WITHIN, journal.note_pause(pause)).await {
            Ok(written) => written.map_err(|error| Refusal::Unwritten(error.to_string())),
            Err(_) => Err(Refusal::Unwritten("it takes too long".to_owned())),
        }
    }

    /// Whether what the whole entry wants is being looked after. A run for some tags only holds no firing up.
    fn is_under_way(&self, name: &str) -> bool {
        self.runs_whole(name) || self.waiting.has_whole(name)
    }

    fn runs_whole(&self, name: &str) -> bool {
        self.running.contains_key(name) && !self.confined.contains(name)
    }

    fn start(&mut self, name: &str, trigger: Trigger, only: Option<Only>) {
        if only.is_none() {
            self.postponed.remove(name);
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.name.as_str() == name).cloned() else { return };
        let stop = Stop::default();
        if only.is_some() {
            self.confined.insert(name.to_owned());
        }
        let errand = Errand { entry, entries: self.entries.clone(), trigger, only };
        let (engine, front, stopping) = (self.engine.clone(), self.front.clone(), stop.clone());
        let notices = self.notices.clone();
        self.runs.spawn(async move {
            let report = engine.run(&errand, &front, &stopping).await;
            let span = tracing::info_span!("run", entry = report.entry, run = report.run);
            notices.ended(&errand.entry, &report).instrument(span).await;
            report
        });
        self.running.insert(name.to_owned(), stop);
        self.state.started(name, trigger, Utc::now());
    }

    fn ended(&mut self, ended: Result<RunReport, tokio::task::JoinError>) {
        match ended {
            Ok(report) => {
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
                if let Some(until) = report.postponed_until().filter(|_| self.has(&report.entry)) {
                    self.postponed.set(&report.entry, report.ended, until);
                }
            }
            // A bug in a run is not the end of the daemon; which entry it was shows in the journal.
            Err(error) => {
                tracing::error!(%error, "a run broke down by a mistake in transship, not yours: please report it");
                self.running.retain(|name, _| self.state.is_running(name));
                self.confined.retain(|name| self.running.contains_key(name));
                self.awaited.retain(|name| self.running.contains_key(name) || self.waiting.has_whole(name));
            }
        }
    }

    /// Once around: the readiness of the journal, the metrics of the registries, the snapshot, the watchdog. When much happens,
    /// not for each of it.
    async fn turn(&mut self) {
        if !self.state.is_stale() {
            return;
        }
        if let Some(journal) =
            self.engine.journal.as_ref().filter(|_| self.probed.is_none_or(|at| at.elapsed() >= PROBE))
        {
            let (writable, bytes) = probe(journal).await;
            self.probed = Some(tokio::time::Instant::now());
            self.state.journal_is(writable, bytes);
        }
        let now = Utc::now();
        self.state.count_registries(&self.engine.endpoints.registries(), &self.engine.endpoints.clients());
        self.state.fire_next(|name| {
            let next = [self.timetable.next_firing(name, now), self.postponed.at(name)];
            next.map(|at| at.filter(|_| !self.pauses.has(name)))
        });
        self.state.paused(|name| self.pauses.get(name).map(|pause| (pause.since, pause.until)));
        self.state.wait(self.waiting.iter(), now);
        self.pruning.turn(now, self.config.daemon.keep_history, self.engine.journal.as_ref());
        self.state.publish(now);
        systemd::alive(self.state.news().as_deref());
    }

    /// Reads the file again if its content or that of a certificate is another one, or if it is asked for.
    async fn look_again(&mut self, asked: bool) {
        let content = self.content();
        if content == self.looked_at && !asked {
            return;
        }
        systemd::reloading();
        match config::load(&self.path, &*self.environment) {
            Ok(config) => {
                self.looked_at = content.having_read(&config);
                self.reconfigure(config).await;
            }
            Err(problems) => {
                self.looked_at = content;
                self.refuse(&problems);
                self.notices.refused(&problems.to_string(), Utc::now()).await;
            }
        }
    }

    /// The last good configuration goes on.
    fn refuse(&mut self, problems: &Problems) {
        tracing::error!(%problems, "the edited configuration is refused and the last good one goes on");
        self.state.refused(problems, Utc::now());
        systemd::reloaded(&self.state.summary());
    }

    async fn reconfigure(&mut self, config: Config) {
        let now = Utc::now();
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let difference = config::difference(&self.config, &config);
        let affected: Vec<String> =
            config::affected(&difference, &self.config, &config).into_iter().map(ToString::to_string).collect();
        let later: Vec<&str> = difference
            .daemon
            .iter()
            .copied()
            .filter(|key| matches!(*key, "journal" | "status" | "control" | "memory" | "hooks.listen"))
            .collect();
        if !later.is_empty() {
            tracing::warn!(keys = later.join(", "), "these settings of the daemon change at its next start");
        }
        let endpoints = self.engine.endpoints.reconfigured(&config, &difference.registries);
        self.engine.endpoints = Arc::new(endpoints.within(config.daemon.bandwidth.clone()));
        self.entries = shared(&config);
        self.in_force.send_replace(Arc::new(config.clone()));
        self.config = config;
        for (name, stop) in &self.running {
            let goes_on = affected.contains(name);
            if goes_on || difference.removed.iter().any(|removed| removed.as_str() == name) {
                stop.drain.cancel();
            }
            if goes_on {
                tracing::info!(entry = name, "goes on by the new configuration as soon as its tags under way are done");
                self.renewed.insert(name.clone());
            }
        }
        let entries = self.entries.clone();
        self.postponed.retain(|name| entries.iter().any(|entry| entry.name.as_str() == name));
        self.waiting.retain(|name| entries.iter().any(|entry| entry.name.as_str() == name));
        self.awaited.retain(|name| self.running.contains_key(name) || self.waiting.has_whole(name));
        if let Err(error) = self.set_timetable(now).await {
            tracing::error!(%error, "the journal cannot tell when new entries last fired");
        }
        self.state.loaded(&self.entries, &self.config.hosts(), now);
        self.notices.configured(&self.config, now).await;
        let (added, removed, changed) = (difference.added.len(), difference.removed.len(), difference.changed.len());
        tracing::info!(added, removed, changed, "the configuration was read again");
        systemd::reloaded(&self.state.summary());
    }

    /// Lets runs finish their tags within the grace, then drops what is left.
    async fn drain(mut self, mut happenings: mpsc::Receiver<(String, Happening)>) {
        systemd::stopping();
        self.state.stopping();
        self.waiting.clear();
        self.turn().await;
        let grace = self.config.daemon.shutdown_grace;
        tracing::info!(running = self.running.len(), grace = %humantime::format_duration(grace), "ending");
        self.running.values().for_each(|stop| stop.drain.cancel());
        self.wait_for_runs(&mut happenings, grace).await;
        self.running.values().for_each(|stop| stop.now.cancel());
        self.wait_for_runs(&mut happenings, LAST_WAIT).await;
    }

    async fn wait_for_runs(&mut self, happenings: &mut mpsc::Receiver<(String, Happening)>, longest: Duration) {
        let deadline = tokio::time::Instant::now() + longest;
        while !self.runs.is_empty() {
            self.turn().await;
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                () = tokio::time::sleep(TURN) => {}
                Some((entry, happening)) = happenings.recv() => self.state.happened(entry, happening),
                Some(ended) = self.runs.join_next() => self.ended(ended),
            }
        }
    }
}

/// Whether the journal can be written, and how large it is where that can be told. Ends in time whatever the disk does.
async fn probe(journal: &Journal) -> (bool, Option<u64>) {
    let asked = async { futures_util::join!(journal.check_writable(), journal.size()) };
    match tokio::time::timeout(PROBED_WITHIN, asked).await {
        Ok((writable, size)) => (writable.is_ok(), size.ok()),
        Err(_) => (false, None),
    }
}

fn shared(config: &Config) -> Arc<Vec<Arc<Entry>>> {
    Arc::new(config.entries.iter().cloned().map(Arc::new).collect())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::{RunOutcome, TagOutcome, TagReport};
    use super::*;
    use crate::copy::event::BlobCounts;
    use crate::journal::{Begun, RunEnd};

    /// The service of one entry, `app`, whose source and target are layouts in the folder.
    async fn service(folder: &std::path::Path, journal: &Journal) -> Service {
        let layout = |name: &str| format!("oci-layout:{}", folder.join(name).display());
        let entry = format!("{{name: app, source: \"{}\", target: \"{}\"}}", layout("a"), layout("b"));
        let config = config::parse("sync.yaml", &format!("version: 1\nsync: [{entry}]\n"), &|_| Some("/tmp".into()));
        let (sender, _) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let path = folder.join("sync.yaml");
        let state = State::new(&path, journal, sender, Arc::new(Metrics::new("0", Utc::now()))).await.unwrap();
        let (front, _) = Front::new();
        Service::new(path, config.unwrap(), journal.clone(), Box::new(|_| None), front, state, mpsc::channel(1).0)
    }

    fn postponed(ended: DateTime<Utc>, until: DateTime<Utc>) -> RunReport {
        let tag = TagReport {
            source: "docker.io/library/app".into(),
            target: "prod.example/app".into(),
            tag: Some("v1".parse().unwrap()),
            digest: None,
            source_digest: None,
            outcome: TagOutcome::Postponed { until, reason: "the pull limit of docker.io".into() },
            blobs: BlobCounts::default(),
            bytes: 0,
        };
        let (entry, outcome) = ("app".into(), RunOutcome::Postponed);
        RunReport { entry, run: Some(1), started: ended, ended, outcome, tags: vec![tag], problems: Vec::new() }
    }

    #[tokio::test]
    async fn an_entry_with_tags_that_wait_goes_on_by_itself_at_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut service = service(folder.path(), &journal).await;
        let now = Utc::now();
        let until = now + TimeDelta::minutes(30);
        service.ended(Ok(postponed(now, until)));
        service.start_due(until - TimeDelta::seconds(1));
        assert!(service.running.is_empty());
        service.start_due(until + TimeDelta::minutes(8));
        assert!(service.running.contains_key("app"));
        service.runs.join_next().await.unwrap().unwrap();
        let history = journal.history(&crate::journal::HistoryFilter::default()).await.unwrap();
        assert_eq!(history[0].trigger, Trigger::Continued);
    }

    #[tokio::test]
    async fn a_run_that_is_asked_for_waits_for_no_back_off_and_is_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut service = service(folder.path(), &journal).await;
        let now = Utc::now();
        service.timetable.hold("app", now + TimeDelta::hours(1));
        let unknown = service.run_now("nobody".into(), Trigger::Asked, None).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no entry \"nobody\" in the configuration that is in force");
        assert_eq!(service.run_now("app".into(), Trigger::Asked, None), Ok(Accepted::Queued));
        assert_eq!(service.run_now("app".into(), Trigger::Asked, None), Ok(Accepted::WaitsAlready));
        service.start_due(now);
        assert_eq!(service.run_now("app".into(), Trigger::Asked, None), Ok(Accepted::RunsAlready));
        service.runs.join_next().await.unwrap().unwrap();
        let history = journal.history(&crate::journal::HistoryFilter::default()).await.unwrap();
        assert_eq!(history.iter().map(|run| run.trigger).collect::<Vec<_>>(), [Trigger::Asked]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_waits_behind_the_run_under_way_and_holds_no_firing_up() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut service = service(folder.path(), &journal).await;
        let now = Utc::now();
        let only = |tag: &str| Some(Only::tag("app".parse().unwrap(), tag.parse().unwrap()));
        let push = |service: &mut Service, tag| service.run_now("app".into(), Trigger::Pushed, only(tag));
        let moment = || tokio::time::sleep(Duration::from_secs(2));
        service.run_now("app".into(), Trigger::Asked, None).unwrap();
        service.start_due(now);
        assert_eq!(push(&mut service, "v1"), Ok(Accepted::Queued));
        moment().await;
        service.start_due(now);
        assert_eq!(push(&mut service, "v2"), Ok(Accepted::Queued));
        assert_eq!(push(&mut service, "v2"), Ok(Accepted::WaitsAlready));
        moment().await;
        service.start_due(now);
        assert!(service.confined.is_empty(), "the run of all tags still runs");
        let ended = service.runs.join_next().await.unwrap();
        service.ended(ended);
        service.start_due(now);
        assert!(service.confined.contains("app"));
        assert_eq!(service.waiting.pop(|_| true), None, "all pushes are one run");
        assert!(!service.is_under_way("app"), "what is due meanwhile is not left out");
        assert_eq!(service.run_now("app".into(), Trigger::Asked, None), Ok(Accepted::Queued));
        let ended = service.runs.join_next().await.unwrap();
        service.ended(ended);
        assert!(service.confined.is_empty());
    }

    #[tokio::test]
    async fn a_paused_entry_begins_nothing_and_what_it_would_have_fired_is_not_made_up_for_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let now = Utc::now();
        let timing =
            Timing { schedule: "* * * * *".parse().unwrap(), timezone: chrono_tz::UTC, jitter: Duration::ZERO };
        let mut service = service(folder.path(), &journal).await;
        service.timetable.set("app", timing, None, now);
        service.pause("app", None, now).await.unwrap();
        service.start_due(now + TimeDelta::minutes(5));
        assert!(service.running.is_empty());
        let refused = service.run_now("app".into(), Trigger::Pushed, None).unwrap_err();
        assert_eq!(refused.to_string(), "it is paused: `transship resume app` ends that");

        let mut restarted = self::service(folder.path(), &journal).await;
        restarted.take_up().await.unwrap();
        assert_eq!(restarted.pauses.get("app").map(|pause| pause.until), Some(None));

        let over = now + TimeDelta::minutes(5);
        assert_eq!(service.resume("app", over).await, Ok(Accepted::Resumed));
        service.start_due(over);
        assert!(service.running.is_empty(), "nothing is made up for");
        service.start_due(over + TimeDelta::seconds(61));
        assert!(service.running.contains_key("app"));
        let records = journal.pauses().await.unwrap();
        assert_eq!(records.iter().map(|record| record.over(over).is_some()).collect::<Vec<_>>(), [true]);
    }

    #[tokio::test]
    async fn what_a_pause_stopped_goes_on_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let mut service = service(folder.path(), &journal).await;
        let now = Utc::now();
        service.run_now("app".into(), Trigger::Asked, None).unwrap();
        let until = now + TimeDelta::hours(2);
        service.pause("app", Some(until), now).await.unwrap();
        service.start_due(until - TimeDelta::seconds(1));
        assert!(service.running.is_empty());
        service.start_due(until);
        assert!(service.running.contains_key("app"));
        assert_eq!(service.resume("app", until).await, Ok(Accepted::NotPaused));
        assert!(service.resume("nobody", until).await.is_err());
    }

    #[tokio::test]
    async fn what_waited_before_a_restart_goes_on_after_it_unless_a_person_began_it() {
        for (trigger, goes_on) in [(Trigger::Continued, true), (Trigger::Hand, false)] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
            let now = Utc::now();
            let report = postponed(now, now + TimeDelta::minutes(30));
            let Begun::Started(run) = journal.begin_run("app", trigger, now).await.unwrap() else { panic!("runs") };
            let end = RunEnd {
                outcome: report.journal_outcome(),
                tags: report.counts(),
                bytes: 0,
                error: report.first_problem(),
                postponed_until: report.postponed_until(),
            };
            journal.end_run(run, end, now).await.unwrap();
            let mut service = service(folder.path(), &journal).await;
            service.take_up().await.unwrap();
            assert_eq!(service.state.postponed().count(), usize::from(goes_on));
            service.start_due(now + TimeDelta::minutes(29));
            assert!(service.running.is_empty());
            service.start_due(now + TimeDelta::minutes(38));
            assert_eq!(service.running.contains_key("app"), goes_on, "{trigger:?}");
        }
    }
}
