//! Progress of the runs under way and of their blob transfers. Ended and queued runs are not included.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::copy::event::{Event, Transfer};
use crate::journal::TagCounts;
use crate::status::{RunningState, TransferState};
use crate::sync::RunEvent;

/// Maximum number of transfers that the snapshot lists.
const MAX_LISTED: usize = 64;

/// Minimum time over which the rate of a transfer is measured.
const MIN_MEASURED_TIME: Duration = Duration::from_secs(1);

/// Weight of the previous rate in the moving average. The new rate has the weight 1.
const PREVIOUS_WEIGHT: u64 = 3;

/// Runs and transfers of the daemon that are under way.
#[derive(Debug, Default)]
pub(crate) struct ActiveWork {
    transfers: Vec<ActiveTransfer>,
    runs: HashMap<String, RunProgress>,
}

/// Progress of one run.
#[derive(Debug, Clone, Copy, Default)]
struct RunProgress {
    counts: TagCounts,
    /// Number of tags to process; `None` until the first tags are listed.
    tags: Option<u64>,
    /// Bytes sent by transfers that have ended.
    bytes_sent: u64,
}

#[derive(Debug)]
struct ActiveTransfer {
    entry: String,
    transfer: Arc<Transfer>,
    since: DateTime<Utc>,
    /// Time of the last measurement, and the bytes sent until that time.
    measured: (Instant, u64),
    /// Moving average of the rate, in bytes per second.
    rate: Option<u64>,
}

impl ActiveWork {
    /// Adds a run of an entry that starts.
    pub(crate) fn add_run(&mut self, entry: &str) {
        self.runs.insert(entry.to_owned(), RunProgress::default());
    }

    /// Removes the ended run of an entry, together with its transfers.
    pub(crate) fn remove_run(&mut self, entry: &str) {
        self.runs.remove(entry);
        self.transfers.retain(|active| active.entry != entry);
    }

    /// Applies an event of a run of an entry. An event that arrives after the end of the run is ignored.
    pub(crate) fn apply_event(&mut self, entry: String, event: RunEvent, now: DateTime<Utc>) {
        let Some(run) = self.runs.get_mut(&entry) else { return };
        match event {
            RunEvent::Started(_) | RunEvent::Ended => {}
            RunEvent::Chosen(tags) => run.tags = Some(run.tags.unwrap_or(0).saturating_add(tags)),
            RunEvent::Tag(report) => report.outcome.count_in(&mut run.counts),
            RunEvent::Transfer(Event::TransferStarted(transfer)) => {
                let measured = (Instant::now(), transfer.sent());
                self.transfers.push(ActiveTransfer { entry, transfer, since: now, measured, rate: None });
            }
            RunEvent::Transfer(Event::TransferFinished(ended) | Event::TransferFailed(ended, _)) => {
                self.transfers.retain(|active| !Arc::ptr_eq(&active.transfer, &ended));
                run.bytes_sent = run.bytes_sent.saturating_add(ended.sent());
            }
            RunEvent::Transfer(Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_)) => {}
        }
    }

    /// Measures the rates of all transfers.
    pub(crate) fn measure_rates(&mut self, now: Instant) {
        self.transfers.iter_mut().for_each(|active| active.measure_rate(now));
    }

    /// Returns the number of transfers under way.
    pub(crate) fn transfers(&self) -> usize {
        self.transfers.len()
    }

    /// Returns the transfers that the snapshot lists.
    pub(crate) fn listed_transfers(&self) -> Vec<TransferState> {
        self.transfers.iter().take(MAX_LISTED).map(ActiveTransfer::to_state).collect()
    }

    /// Copies the progress of the entry's run into `running`.
    pub(crate) fn show(&self, entry: &str, running: &mut RunningState) {
        let Some(run) = self.runs.get(entry) else { return };
        (running.counts, running.tags, running.bytes_sent) = (run.counts, run.tags, self.sent(entry));
        let active = || self.transfers.iter().filter(|active| active.entry == entry);
        let unsent = active().map(ActiveTransfer::unsent).fold(0, u64::saturating_add);
        running.bytes_expected = Some(running.bytes_sent.saturating_add(unsent));
        running.bytes_per_second = active().filter_map(|active| active.rate).reduce(u64::saturating_add);
    }

    /// Returns the number of bytes that the run of an entry has sent.
    pub(crate) fn sent(&self, entry: &str) -> u64 {
        let ended = self.runs.get(entry).map_or(0, |run| run.bytes_sent);
        let active = self.transfers.iter().filter(|active| active.entry == entry);
        active.map(|active| active.transfer.sent()).fold(ended, u64::saturating_add)
    }
}

impl ActiveTransfer {
    fn measure_rate(&mut self, now: Instant) {
        let (last, before) = self.measured;
        let elapsed = now.saturating_duration_since(last);
        if elapsed < MIN_MEASURED_TIME {
            return;
        }
        let sent = self.transfer.sent();
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let rate = sent.saturating_sub(before).saturating_mul(1000) / milliseconds;
        let smooth =
            |previous: u64| previous.saturating_mul(PREVIOUS_WEIGHT).saturating_add(rate) / (PREVIOUS_WEIGHT + 1);
        self.rate = Some(self.rate.map_or(rate, smooth));
        self.measured = (now, sent);
    }

    /// Returns the number of bytes that the transfer has not sent yet.
    fn unsent(&self) -> u64 {
        self.transfer.size.saturating_sub(self.transfer.position())
    }

    fn to_state(&self) -> TransferState {
        TransferState {
            source: self.transfer.source.clone(),
            target: self.transfer.target.clone(),
            digest: self.transfer.digest,
            size: self.transfer.size,
            sent: self.transfer.position(),
            since: Some(self.since),
            bytes_per_second: self.rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::event::BlobCounts;
    use crate::oci::Digest;
    use crate::sync::{TagOutcome, TagReport};

    fn blob(size: u64) -> Arc<Transfer> {
        Transfer::new("h/a", "t/a", Digest::of(b"blob"), size)
    }

    fn tag(outcome: TagOutcome) -> RunEvent {
        let (source, target) = ("h/a".into(), "t/a".into());
        RunEvent::Tag(Box::new(TagReport {
            source,
            target,
            tag: None,
            source_tag: None,
            digest: None,
            source_digest: None,
            outcome,
            blobs: BlobCounts::default(),
            bytes: 0,
        }))
    }

    fn running(work: &ActiveWork, entry: &str) -> RunningState {
        let mut running = RunningState {
            since: Utc::now(),
            trigger: "manual".into(),
            counts: TagCounts::default(),
            tags: None,
            bytes_sent: 0,
            bytes_expected: None,
            bytes_per_second: None,
        };
        work.show(entry, &mut running);
        running
    }

    #[test]
    fn run_reports_progress_and_bytes_until_it_ends() {
        let mut work = ActiveWork::default();
        work.add_run("api");
        assert_eq!(running(&work, "api").tags, None, "nothing is listed yet");
        let mut apply = |event| work.apply_event("api".into(), event, Utc::now());
        let (finished, active) = (blob(100), blob(1000));
        apply(RunEvent::Chosen(3));
        apply(RunEvent::Chosen(2));
        apply(tag(TagOutcome::Unchanged));
        apply(tag(TagOutcome::Copied));
        for transfer in [&finished, &active] {
            apply(RunEvent::Transfer(Event::TransferStarted(transfer.clone())));
        }
        finished.advance(100);
        active.advance(40);
        apply(RunEvent::Transfer(Event::TransferFinished(finished)));
        let state = running(&work, "api");
        assert_eq!(
            (state.tags, state.counts.to_string().as_str(), state.bytes_sent),
            (Some(5), "1 copied, 1 unchanged", 140)
        );
        assert_eq!(work.listed_transfers().iter().map(|transfer| transfer.sent).collect::<Vec<_>>(), [40]);
        assert_eq!((state.bytes_expected, state.bytes_per_second), (Some(1100), None), "960 bytes are unsent");
        work.remove_run("api");
        assert_eq!((work.transfers(), running(&work, "api").bytes_sent), (0, 0));
        work.apply_event("api".into(), RunEvent::Chosen(1), Utc::now());
        assert_eq!(running(&work, "api").tags, None, "a late event belongs to no run");
    }

    #[test]
    fn bytes_of_an_earlier_process_are_not_counted() {
        let mut work = ActiveWork::default();
        work.add_run("api");
        let transfer = Transfer::resumed("h/a", "t/a", Digest::of(b"blob"), 100, 60);
        work.apply_event("api".into(), RunEvent::Transfer(Event::TransferStarted(transfer.clone())), Utc::now());
        let shown = |work: &ActiveWork| (work.listed_transfers()[0].sent, running(work, "api").bytes_sent);
        assert_eq!(shown(&work), (60, 0));
        transfer.advance(15);
        assert_eq!(shown(&work), (75, 15));
        let failed = Event::TransferFailed(transfer, "broke off".into());
        work.apply_event("api".into(), RunEvent::Transfer(failed), Utc::now());
        assert_eq!(work.sent("api"), 15);
    }

    #[test]
    fn transfer_rate_is_measured_over_seconds() {
        let mut work = ActiveWork::default();
        work.add_run("api");
        let transfer = blob(1 << 30);
        work.apply_event("api".into(), RunEvent::Transfer(Event::TransferStarted(transfer.clone())), Utc::now());
        let rate = |work: &ActiveWork| work.listed_transfers()[0].bytes_per_second;
        let started = work.transfers[0].measured.0;
        work.measure_rates(started + Duration::from_millis(999));
        assert_eq!(rate(&work), None);
        transfer.advance(4000);
        work.measure_rates(started + Duration::from_secs(2));
        assert_eq!(rate(&work), Some(2000));
        assert_eq!(running(&work, "api").bytes_per_second, Some(2000));
        work.measure_rates(started + Duration::from_secs(3));
        assert_eq!(rate(&work), Some(1500), "a short stop does not make the rate zero");
    }

    #[test]
    fn listed_transfers_are_bounded_and_all_are_counted() {
        let mut work = ActiveWork::default();
        work.add_run("api");
        for _ in 0..MAX_LISTED + 1 {
            work.apply_event("api".into(), RunEvent::Transfer(Event::TransferStarted(blob(1))), Utc::now());
        }
        assert_eq!((work.listed_transfers().len(), work.transfers()), (MAX_LISTED, MAX_LISTED + 1));
    }
}
