//! What the daemon knows of itself, folded from what happens into a snapshot and the metrics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::RunReport;
use crate::config::Entry;
use crate::copy::event::{Event, Transfer};
use crate::journal::{Journal, JournalError, Outcome, RunRecord, Trigger};
use crate::registry::{MeterSnapshot, QuotaState, Registry, RequestCount};
use crate::status::{Direction, EndedRun, EntryState, LastRun, Metrics, Quota, RunningState, Snapshot, TransferState};

/// How many transfers in flight the snapshot lists.
const LISTED: usize = 64;

/// Everything that `/status` and `/metrics` tell.
pub(super) struct State {
    snapshot: Snapshot,
    sender: watch::Sender<Arc<Snapshot>>,
    metrics: Arc<Metrics>,
    transfers: Vec<Arc<Transfer>>,
    /// What each entry's last run was, by the journal and since.
    past: BTreeMap<String, Past>,
    /// What each registry had counted when it was last asked.
    counted: HashMap<String, MeterSnapshot>,
}

#[derive(Debug, Clone, Default)]
struct Past {
    running: Option<RunningState>,
    last_run: Option<LastRun>,
    last_success: Option<DateTime<Utc>>,
    last_failure: Option<DateTime<Utc>>,
    /// How many runs in a row failed.
    failures: u32,
    /// Whether the last run was the daemon's own and was cut off.
    cut_off: bool,
    /// When the last run ended and when it is to go on, where it was the daemon's own and left tags for later.
    postponed: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl State {
    pub(super) async fn new(
        path: &Path,
        journal: &Journal,
        sender: watch::Sender<Arc<Snapshot>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let mut snapshot = Snapshot::starting(Utc::now());
        snapshot.configuration.path = path.display().to_string();
        snapshot.journal.path = journal.path().display().to_string();
        let runs = journal.last_runs().await?;
        let mut past: BTreeMap<_, _> = runs.into_iter().map(|run| (run.entry.clone(), Past::of(&run))).collect();
        for ends in journal.last_ends().await? {
            let past: &mut Past = past.entry(ends.entry).or_default();
            (past.last_success, past.last_failure) = (ends.success, ends.failure);
        }
        for streak in journal.failure_streaks().await? {
            past.entry(streak.entry).or_default().failures = streak.failures;
        }
        Ok(Self { snapshot, sender, metrics, transfers: Vec::new(), past, counted: HashMap::new() })
    }

    /// The entries whose last run was the daemon's and was cut off. What a person began and interrupted is for a person
    /// to begin again.
    pub(super) fn interrupted(&self) -> HashSet<String> {
        self.past.iter().filter(|(_, past)| past.cut_off).map(|(name, _)| name.clone()).collect()
    }

    /// The entries whose last run was the daemon's and left tags for later: when it ended, and when they go on.
    pub(super) fn postponed(&self) -> impl Iterator<Item = (&str, DateTime<Utc>, DateTime<Utc>)> {
        self.past.iter().filter_map(|(name, past)| past.postponed.map(|(ended, until)| (name.as_str(), ended, until)))
    }

    /// A configuration is in force.
    pub(super) fn loaded(&mut self, entries: &[Arc<Entry>], now: DateTime<Utc>) {
        self.snapshot.configuration.loaded_at = Some(now);
        self.snapshot.configuration.problem = None;
        self.snapshot.ready = true;
        self.snapshot.entries = entries.iter().map(|entry| self.entry_state(entry)).collect();
        self.metrics.configuration_loaded(now, entries.iter().map(|entry| entry.name.as_str()));
        for entry in &self.snapshot.entries {
            self.metrics.ended_before(&entry.name, entry.last_success, entry.last_failure);
        }
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
            running: past.running,
            last_run: past.last_run,
            last_success: past.last_success,
            last_failure: past.last_failure,
            failures: past.failures,
            paused_since: None,
            paused_until: None,
        }
    }

    /// An edit was refused.
    pub(super) fn refused(&mut self, problem: String) {
        self.snapshot.configuration.problem = Some(problem);
        self.metrics.configuration_refused();
    }

    pub(super) fn started(&mut self, entry: &str, trigger: Trigger, now: DateTime<Utc>) {
        let running = RunningState { since: now, trigger: trigger.word().to_owned() };
        self.past.entry(entry.to_owned()).or_default().running = Some(running);
        self.show(entry);
    }

    pub(super) fn ended(&mut self, report: &RunReport) {
        let outcome = report.journal_outcome();
        let well = is_well(outcome);
        let past = self.past.entry(report.entry.clone()).or_default();
        past.running = None;
        if let Some(run) = report.run {
            past.last_run = Some(LastRun {
                run,
                outcome: outcome.word().to_owned(),
                ended: report.ended,
                counts: report.counts(),
                error: report.first_problem(),
            });
            match well {
                Some(true) => past.last_success = Some(report.ended),
                Some(false) => past.last_failure = Some(report.ended),
                None => {}
            }
            past.failures = match outcome {
                Outcome::Failed | Outcome::TimedOut => past.failures.saturating_add(1),
                // Says nothing.
                Outcome::Interrupted => past.failures,
                Outcome::Succeeded | Outcome::Postponed => 0,
            };
            self.metrics.run_ended(
                &report.entry,
                &EndedRun {
                    outcome: outcome.word(),
                    well,
                    ended: report.ended,
                    duration: (report.ended - report.started).to_std().unwrap_or_default(),
                    counts: report.counts(),
                },
            );
        }
        self.show(&report.entry);
    }

    /// How many runs of an entry failed in a row, and when it last failed.
    pub(super) fn failures(&self, entry: &str) -> (u32, Option<DateTime<Utc>>) {
        self.past.get(entry).map_or((0, None), |past| (past.failures, past.last_failure))
    }

    pub(super) fn is_running(&self, entry: &str) -> bool {
        self.past.get(entry).is_some_and(|past| past.running.is_some())
    }

    fn show(&mut self, entry: &str) {
        let Some(past) = self.past.get(entry).cloned() else { return };
        if let Some(state) = self.snapshot.entries.iter_mut().find(|state| state.name == entry) {
            state.running = past.running;
            state.last_run = past.last_run;
            state.last_success = past.last_success;
            state.last_failure = past.last_failure;
            state.failures = past.failures;
        }
    }

    pub(super) fn transfer(&mut self, event: Event) {
        match event {
            Event::TransferStarted(transfer) => self.transfers.push(transfer),
            Event::TransferFinished(ended) | Event::TransferFailed(ended, _) => {
                self.transfers.retain(|transfer| !Arc::ptr_eq(transfer, &ended));
            }
            Event::SignatureArrived(_) => {}
        }
    }

    pub(super) fn fires_next(&mut self, entry: &str, at: Option<DateTime<Utc>>) {
        if let Some(state) = self.snapshot.entries.iter_mut().find(|state| state.name == entry) {
            state.next_firing = at;
        }
        self.metrics.fires_next(entry, at);
    }

    /// Since when an entry is paused and until when, if it is.
    pub(super) fn paused(&mut self, entry: &str, pause: Option<(DateTime<Utc>, Option<DateTime<Utc>>)>) {
        if let Some(state) = self.snapshot.entries.iter_mut().find(|state| state.name == entry) {
            state.paused_since = pause.map(|(since, _)| since);
            state.paused_until = pause.and_then(|(_, until)| until);
        }
        self.metrics.paused(entry, pause.is_some());
    }

    pub(super) fn journal_writable(&mut self, writable: bool) {
        if self.snapshot.journal.writable && !writable {
            tracing::error!(journal = self.snapshot.journal.path, "the journal cannot be written");
        }
        self.snapshot.journal.writable = writable;
    }

    /// Adds what the registries counted since they were last asked.
    pub(super) fn count_registries(&mut self, registries: &[Arc<Registry>]) {
        for registry in registries {
            let host = registry.host().to_string();
            let now = registry.meter();
            let before = self.counted.get(&host).cloned().unwrap_or_default();
            for count in &now.requests {
                let same = |other: &&RequestCount| (other.method, other.status) == (count.method, count.status);
                let counted = before.requests.iter().find(same).map_or(0, |before| before.count);
                self.metrics.requests_ended(&host, count.method, count.status, grown(counted, count.count));
            }
            self.metrics.bytes_moved(&host, Direction::Received, grown(before.bytes_in, now.bytes_in));
            self.metrics.bytes_moved(&host, Direction::Sent, grown(before.bytes_out, now.bytes_out));
            self.metrics.throttled(&host, now.throttled.checked_sub(before.throttled).unwrap_or(now.throttled));
            self.counted.insert(host, now);
        }
    }

    /// Takes in what is left of the quotas of all identities.
    pub(super) fn count_quotas(&mut self, clients: &[Arc<Registry>]) {
        let mut quotas: Vec<Quota> = clients.iter().filter_map(|client| client.quota()).map(shown_quota).collect();
        quotas.sort_by(|a, b| (&a.registry, &a.identity).cmp(&(&b.registry, &b.identity)));
        self.metrics.quotas(&quotas, &self.snapshot.quotas);
        self.snapshot.quotas = quotas;
    }

    pub(super) fn stopping(&mut self) {
        self.snapshot.ready = false;
    }

    /// Gives the snapshot out.
    pub(super) fn publish(&mut self, now: DateTime<Utc>) {
        self.snapshot.loop_turned_at = now;
        self.snapshot.in_flight = self.transfers.iter().take(LISTED).map(|transfer| shown(transfer)).collect();
        let running = self.past.values().filter(|past| past.running.is_some()).count();
        self.metrics.in_flight(running, self.transfers.len());
        self.sender.send_replace(Arc::new(self.snapshot.clone()));
    }

    /// One line for systemd.
    pub(super) fn summary(&self) -> String {
        format!("{} entries, configuration in force", self.snapshot.entries.len())
    }
}

impl Past {
    fn of(run: &RunRecord) -> Self {
        let (Some(outcome), Some(ended)) = (run.outcome, run.ended) else { return Self::default() };
        let last_run = LastRun {
            run: run.id.number(),
            outcome: outcome.word().to_owned(),
            ended,
            counts: run.tags,
            error: run.error.clone(),
        };
        let own = run.trigger != Trigger::Hand;
        Self {
            last_run: Some(last_run),
            cut_off: outcome == Outcome::Interrupted && own,
            postponed: run.postponed_until.filter(|_| own).map(|until| (ended, until)),
            ..Self::default()
        }
    }
}

/// Whether that is a success or a failure; tags that wait are neither.
fn is_well(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Succeeded => Some(true),
        Outcome::Postponed => None,
        Outcome::Failed | Outcome::Interrupted | Outcome::TimedOut => Some(false),
    }
}

/// By how much a counter grew; one that is smaller than before began anew (a client made anew by a reload).
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn shown_quota(quota: QuotaState) -> Quota {
    let QuotaState { registry, identity, limit, window, remaining, kept, told } = quota;
    let (registry, window_seconds) = (registry.to_string(), window.as_secs());
    Quota { registry, identity, limit, window_seconds, remaining, kept, told }
}

fn shown(transfer: &Transfer) -> TransferState {
    TransferState {
        source: transfer.source.clone(),
        target: transfer.target.clone(),
        digest: transfer.digest,
        size: transfer.size,
        sent: transfer.sent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Begun, RunEnd, TagCounts};

    async fn run_cut_off(journal: &Journal, entry: &str, trigger: Trigger, outcome: Outcome) {
        let now = Utc::now();
        let Begun::Started(id) = journal.begin_run(entry, trigger, now).await.unwrap() else { panic!("not begun") };
        let end = RunEnd { outcome, tags: TagCounts::default(), bytes: 0, error: None, postponed_until: None };
        journal.end_run(id, end, now).await.unwrap();
    }

    #[tokio::test]
    async fn only_runs_that_the_daemon_began_go_on_after_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let scheduled = Trigger::Schedule { scheduled_at: Utc::now() };
        run_cut_off(&journal, "by-timer", scheduled, Outcome::Interrupted).await;
        run_cut_off(&journal, "taken-up", Trigger::Start, Outcome::Interrupted).await;
        run_cut_off(&journal, "by-hand", Trigger::Hand, Outcome::Interrupted).await;
        run_cut_off(&journal, "well", scheduled, Outcome::Succeeded).await;
        let (sender, _) = watch::channel(Arc::new(Snapshot::starting(Utc::now())));
        let state = State::new(Path::new("sync.yaml"), &journal, sender, Arc::new(Metrics::new("0", Utc::now())))
            .await
            .unwrap();
        let mut names: Vec<String> = state.interrupted().into_iter().collect();
        names.sort();
        assert_eq!(names, ["by-timer", "taken-up"]);
    }
}
