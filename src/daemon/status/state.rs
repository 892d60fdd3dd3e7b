//! State of the daemon for `/status` and `/metrics`. The loop applies events to the state. The state publishes
//! snapshots and updates the metrics.

mod runs;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

use super::entry_history::{EntryHistory, failed_run, load_histories};
use super::running::ActiveWork;
use super::traffic::Traffic;
use crate::config::{Entry, Problems, Warning};
use crate::journal::{HistoryFilter, Journal, JournalError, Trigger};
use crate::oci::RegistryHost;
use crate::registry::{QuotaState, Registry};
use crate::status::{ClockSetback, EntryState, FailedRun, Metrics, Quota, Snapshot, WaitingState};

/// Maximum number of failed runs in the snapshot.
const MAX_FAILURES: usize = 10;

/// Maximum number of runs in the journal that the daemon searches for failed runs at its start.
const MAX_SEARCHED_RUNS: u32 = 500;

/// Minimum time between two publications of the snapshot. With many entries, a publication is expensive. Important
/// changes are published earlier.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// State behind `/status` and `/metrics`.
pub(crate) struct DaemonState {
    snapshot: Snapshot,
    sender: watch::Sender<Arc<Snapshot>>,
    metrics: Arc<Metrics>,
    active: ActiveWork,
    traffic: Traffic,
    /// Results of past runs, by entry.
    past: BTreeMap<String, EntryHistory>,
    /// Warnings of the configuration in force.
    configured: Vec<Warning>,
    /// Failed runs, the latest first.
    failures: VecDeque<FailedRun>,
    /// Time of the last publication; `None` if an important change must be published at once.
    published: Option<Instant>,
    /// True if the journal could not be written at the last probe. The log reports only a change of this value.
    journal_failed: bool,
    /// Status line that systemd received last.
    reported_status: String,
}

impl DaemonState {
    /// Creates the state from the runs in the journal.
    pub(crate) async fn new(
        path: &Path,
        journal: &Journal,
        sender: watch::Sender<Arc<Snapshot>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let mut snapshot = Snapshot::starting(Utc::now());
        snapshot.configuration.path = path.display().to_string();
        snapshot.journal.path = journal.path().display().to_string();
        let past = load_histories(journal).await?;
        let filter = HistoryFilter { limit: Some(MAX_SEARCHED_RUNS), ..HistoryFilter::default() };
        let failures = journal.history(&filter).await?.iter().filter_map(failed_run).take(MAX_FAILURES).collect();
        let (active, traffic) = (ActiveWork::default(), Traffic::default());
        Ok(Self {
            snapshot,
            sender,
            metrics,
            active,
            traffic,
            past,
            configured: Vec::new(),
            failures,
            published: None,
            journal_failed: false,
            reported_status: String::new(),
        })
    }

    /// Returns the metrics that the loop updates.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Returns the entries whose last run was interrupted, if the daemon started this run. An interrupted run of `once`
    /// or `copy` does not resume automatically.
    pub(crate) fn interrupted_entries(&self) -> HashSet<String> {
        self.past.iter().filter(|(_, past)| past.was_interrupted).map(|(name, _)| name.clone()).collect()
    }

    /// Returns the entries whose last run deferred tags, if the daemon started this run. Each item also contains the
    /// end of the last run, and the time at which the entry resumes.
    pub(crate) fn deferred(&self) -> impl Iterator<Item = (&str, DateTime<Utc>, DateTime<Utc>)> {
        self.past.iter().filter_map(|(name, past)| past.deferred.map(|(ended, until)| (name.as_str(), ended, until)))
    }

    /// Returns the end of the last run of each entry.
    pub(crate) fn last_ends(&self) -> impl Iterator<Item = DateTime<Utc>> {
        self.past.values().filter_map(|past| past.last_run.as_ref().map(|run| run.ended))
    }

    /// Records that the clock was set back by `seconds`. The loop detected the setback at `now`.
    pub(crate) fn record_setback(&mut self, now: DateTime<Utc>, seconds: u64) {
        self.snapshot.clock_set_back = Some(ClockSetback { noticed: now, seconds });
        self.published = None;
    }

    /// Records that a configuration is in force. `named` contains the registries that the configuration names.
    pub(crate) fn apply_configuration(
        &mut self,
        entries: &[Arc<Entry>],
        named: &BTreeSet<RegistryHost>,
        warnings: &[Warning],
        now: DateTime<Utc>,
    ) {
        self.configured = warnings.to_vec();
        let configuration = &mut self.snapshot.configuration;
        configuration.loaded_at = Some(now);
        (configuration.problem, configuration.first_problem, configuration.refused_at) = (None, None, None);
        self.snapshot.ready = true;
        self.published = None;
        self.traffic.retain_named(named, &self.metrics);
        self.snapshot.entries = entries.iter().map(|entry| self.entry_state(entry)).collect();
        self.show_warnings();
        self.metrics.record_configuration(now, entries.iter().map(|entry| entry.name.as_str()));
        for entry in &self.snapshot.entries {
            self.metrics.set_last_ends(&entry.name, entry.last_success, entry.last_failure);
            self.metrics.set_consecutive_failures(&entry.name, entry.failures);
            // `set_next_runs` sets the time again.
            self.metrics.set_next_run(&entry.name, None);
        }
    }

    /// Sets the configured receivers of push events, for the metrics.
    pub(crate) fn set_push_receivers<'a>(&self, receivers: impl IntoIterator<Item = &'a str>) {
        self.metrics.push_events().follow(receivers);
    }

    fn entry_state(&self, entry: &Entry) -> EntryState {
        let past = self.past.get(entry.name.as_str()).cloned().unwrap_or_default();
        EntryState {
            name: entry.name.to_string(),
            source: entry.source.to_string(),
            targets: entry.targets.iter().map(ToString::to_string).collect(),
            schedule: entry.schedule.to_string(),
            timezone: entry.timezone.to_string(),
            next_firing: None,
            deferred_until: None,
            running: past.running,
            last_run: past.last_run,
            last_success: past.last_success,
            last_failure: past.last_failure,
            failures: past.failures,
            paused_since: None,
            paused_until: None,
            never_matched: past.never_matched,
        }
    }

    /// Records that an edit of the configuration was refused.
    pub(crate) fn record_refused_edit(&mut self, problems: &Problems, now: DateTime<Utc>) {
        let configuration = &mut self.snapshot.configuration;
        configuration.problem = Some(problems.to_string());
        configuration.first_problem = Some(problems.headline());
        configuration.refused_at = Some(now);
        self.published = None;
        self.metrics.record_rejected_configuration();
    }

    /// Puts the warnings into the snapshot: first the warnings of the configuration in force, then the warnings of the
    /// last runs.
    fn show_warnings(&mut self) {
        let entries = self.snapshot.entries.iter().filter_map(|entry| self.past.get(&entry.name));
        let run_warnings = entries.flat_map(|past| &past.warnings);
        self.snapshot.warnings = self.configured.iter().chain(run_warnings).cloned().collect();
        self.published = None;
    }

    /// Copies the facts about the runs of an entry into the snapshot.
    fn show_entry(&mut self, entry: &str) {
        let Some(past) = self.past.get(entry).cloned() else { return };
        if let Some(state) = self.snapshot.entries.iter_mut().find(|state| state.name == entry) {
            state.running = past.running;
            state.last_run = past.last_run;
            state.last_success = past.last_success;
            state.last_failure = past.last_failure;
            state.failures = past.failures;
            state.never_matched = past.never_matched;
        }
    }

    /// Sets the next run of each entry. `when` returns the next scheduled run of an entry, and the time at which the
    /// deferred tags of the entry resume.
    pub(crate) fn set_next_runs(&mut self, when: impl Fn(&str) -> [Option<DateTime<Utc>>; 2]) {
        for entry in &mut self.snapshot.entries {
            let [scheduled, deferred] = when(&entry.name);
            let next = [scheduled, deferred].into_iter().flatten().min();
            entry.deferred_until = deferred;
            if entry.next_firing != next {
                entry.next_firing = next;
                self.metrics.set_next_run(&entry.name, next);
            }
        }
    }

    /// Sets the entries that wait for a slot. `waiting` begins with the entry that will start first.
    pub(crate) fn set_waiting<'a>(&mut self, waiting: impl Iterator<Item = (&'a str, Trigger)>, now: DateTime<Utc>) {
        let before = std::mem::take(&mut self.snapshot.waiting);
        let before: HashMap<&str, DateTime<Utc>> =
            before.iter().map(|waiting| (waiting.entry.as_str(), waiting.since)).collect();
        let shown = waiting.map(|(entry, trigger)| WaitingState {
            entry: entry.to_owned(),
            since: before.get(entry).copied().unwrap_or(now),
            trigger: trigger.word().to_owned(),
        });
        self.snapshot.waiting = shown.collect();
    }

    /// Sets the start and the end of the pause of each paused entry.
    pub(crate) fn set_pauses(&mut self, pause: impl Fn(&str) -> Option<(DateTime<Utc>, Option<DateTime<Utc>>)>) {
        for state in &mut self.snapshot.entries {
            let pause = pause(&state.name);
            state.paused_since = pause.map(|(since, _)| since);
            state.paused_until = pause.and_then(|(_, until)| until);
            self.metrics.set_paused(&state.name, pause.is_some());
        }
    }

    /// Makes the next call of [`Self::is_stale`] return true.
    pub(crate) fn request_publication(&mut self) {
        self.published = None;
    }

    /// Records the result of a probe of the journal. `bytes` is the size of the journal, and `problem` describes a
    /// problem with its files.
    pub(crate) fn record_journal_state(&mut self, writable: bool, bytes: Option<u64>, problem: Option<String>) {
        if problem.is_some() {
            // The journal itself has logged the problem.
        } else if writable && self.journal_failed {
            tracing::info!(journal = self.snapshot.journal.path, "the journal is writable again: runs can start");
        } else if !writable && !self.journal_failed {
            tracing::error!(
                journal = self.snapshot.journal.path,
                "the journal cannot be written, so no run starts: check the disk of the journal and the permissions \
                    of its folder"
            );
        }
        self.journal_failed = !writable;
        (self.snapshot.journal.writable, self.snapshot.journal.bytes) = (writable, bytes);
        self.snapshot.journal.problem = problem.or(self.snapshot.journal.problem.take().filter(|_| !writable));
        self.metrics.set_journal_state(bytes, writable);
    }

    /// Counts the requests and bytes of each registry since the last call. `registries` contains one client for each
    /// host. `clients` contains the clients of all identities.
    pub(crate) fn count_registries(&mut self, registries: &[Arc<Registry>], clients: &[Arc<Registry>]) {
        self.snapshot.registries = self.traffic.update(registries, clients, &self.metrics, Utc::now());
        self.count_quotas(clients);
    }

    /// Records the pull quotas of all identities.
    fn count_quotas(&mut self, clients: &[Arc<Registry>]) {
        let mut quotas: Vec<Quota> = clients.iter().filter_map(|client| client.quota()).map(quota_state).collect();
        quotas.sort_by(|a, b| (&a.registry, &a.identity).cmp(&(&b.registry, &b.identity)));
        self.metrics.set_quotas(&quotas, &self.snapshot.quotas);
        self.snapshot.quotas = quotas;
    }

    /// Records that the daemon is shutting down.
    pub(crate) fn mark_stopping(&mut self) {
        self.snapshot.ready = false;
        self.published = None;
    }

    /// Returns true if a publication of the snapshot is due. Before the publication, the caller updates the other parts
    /// of the state.
    pub(crate) fn is_stale(&self) -> bool {
        self.published.is_none_or(|published| published.elapsed() >= PUBLISH_INTERVAL)
    }

    /// Publishes the snapshot.
    pub(crate) fn publish(&mut self, now: DateTime<Utc>) {
        let instant = Instant::now();
        self.published = Some(instant);
        self.active.measure_rates(instant);
        let snapshot = &mut self.snapshot;
        snapshot.loop_iterated_at = now;
        snapshot.transfers = self.active.transfers() as u64;
        snapshot.in_flight = self.active.listed_transfers();
        snapshot.recent_failures = self.failures.iter().cloned().collect();
        for entry in &mut snapshot.entries {
            if let Some(running) = &mut entry.running {
                self.active.show(&entry.name, running);
            }
        }
        let running = self.past.values().filter(|past| past.running.is_some()).count();
        self.metrics.set_in_flight(running, snapshot.waiting.len(), self.active.transfers());
        self.sender.send_replace(Arc::new(snapshot.clone()));
    }

    /// Returns the status line for systemd if the line changed since the last call.
    pub(crate) fn take_status_change(&mut self) -> Option<String> {
        let summary = self.status_line();
        (self.reported_status != summary).then(|| {
            self.reported_status.clone_from(&summary);
            summary
        })
    }

    /// Builds the status line for systemd: first the problem of the configuration, if there is one, then the number of
    /// entries and their states.
    pub(crate) fn status_line(&self) -> String {
        let entries = &self.snapshot.entries;
        let running = entries.iter().filter(|entry| entry.running.is_some()).count();
        let failing = entries.iter().filter(|entry| entry.failures > 0).count();
        let noun = if entries.len() == 1 { "entry" } else { "entries" };
        let (all, waiting) = (entries.len(), self.snapshot.waiting.len());
        let counts = format!("{all} {noun}: {running} running, {waiting} waiting, {failing} failing");
        match &self.snapshot.configuration.first_problem {
            Some(problem) => {
                format!("the edit is refused, the previous configuration stays in force: {problem}; {counts}")
            }
            None => counts,
        }
    }
}

fn quota_state(quota: QuotaState) -> Quota {
    let QuotaState { registry, identity, limit, window, remaining, reserved, reported } = quota;
    let (registry, window_seconds) = (registry.to_string(), window.as_secs());
    Quota { registry, identity, limit, window_seconds, remaining, reserved, reported }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Outcome, RunEnd, RunStart, TagCounts};

    async fn record_run(journal: &Journal, entry: &str, trigger: Trigger, outcome: Outcome) {
        let now = Utc::now();
        let RunStart::Started(id) = journal.begin_run(entry, trigger, now).await.unwrap() else {
            panic!("not started")
        };
        let end = RunEnd { outcome, tags: TagCounts::default(), bytes: 0, error: None, deferred_until: None };
        journal.end_run(id, end, now).await.unwrap();
    }

    pub(super) async fn state(journal: &Journal) -> DaemonState {
        let (sender, _) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        DaemonState::new(Path::new("sync.yaml"), journal, sender, Arc::new(Metrics::new("0", Utc::now())))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn only_interrupted_runs_of_the_daemon_resume() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let scheduled = Trigger::Schedule { scheduled_at: Utc::now() };
        record_run(&journal, "scheduled", scheduled, Outcome::Interrupted).await;
        record_run(&journal, "started", Trigger::Start, Outcome::Interrupted).await;
        record_run(&journal, "manual", Trigger::Manual, Outcome::Interrupted).await;
        record_run(&journal, "succeeded", scheduled, Outcome::Succeeded).await;
        let state = state(&journal).await;
        let mut names: Vec<String> = state.interrupted_entries().into_iter().collect();
        names.sort();
        assert_eq!(names, ["scheduled", "started"]);
    }
}
