//! Progress of the runs under way and of the blob transfers between two repositories. Ended and waiting runs are not
//! part of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::copy::event::{Event, Transfer};
use crate::journal::TagCounts;
use crate::status::{RunningState, TransferState};
use crate::sync::RunEvent;

/// Largest number of transfers in flight that the snapshot lists.
const LISTED: usize = 64;

/// Shortest time over which the rate of a transfer is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// Weight of the previous rate against the newly measured rate.
const INERTIA: u64 = 3;

/// Runs and transfers of the daemon that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    transfers: Vec<Moving>,
    runs: HashMap<String, Progress>,
}

/// Progress of one run.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    counts: TagCounts,
    tags: Option<u64>,
    /// Bytes of the transfers that have ended.
    bytes: u64,
}

#[derive(Debug)]
struct Moving {
    entry: String,
    transfer: Arc<Transfer>,
    since: DateTime<Utc>,
    /// Time of the last measurement, and the bytes sent until then.
    measured: (Instant, u64),
    rate: Option<u64>,
}

impl UnderWay {
    /// Adds a run of an entry that starts.
    pub(crate) fn begins(&mut self, entry: &str) {
        self.runs.insert(entry.to_owned(), Progress::default());
    }

    /// Removes the ended run of an entry, together with its transfers.
    pub(crate) fn ends(&mut self, entry: &str) {
        self.runs.remove(entry);
        self.transfers.retain(|moving| moving.entry != entry);
    }

    /// Applies an event of a run of an entry. An event without a run under way came too late and is ignored.
    pub(crate) fn happened(&mut self, entry: String, event: RunEvent, now: DateTime<Utc>) {
        let Some(run) = self.runs.get_mut(&entry) else { return };
        match event {
            RunEvent::Chosen(tags) => run.tags = Some(run.tags.unwrap_or(0).saturating_add(tags)),
            RunEvent::Tag(report) => report.outcome.count_in(&mut run.counts),
            RunEvent::Transfer(Event::TransferStarted(transfer)) => {
                let measured = (Instant::now(), transfer.sent());
                self.transfers.push(Moving { entry, transfer, since: now, measured, rate: None });
            }
            RunEvent::Transfer(Event::TransferFinished(ended) | Event::TransferFailed(ended, _)) => {
                self.transfers.retain(|moving| !Arc::ptr_eq(&moving.transfer, &ended));
                run.bytes = run.bytes.saturating_add(ended.sent());
            }
            RunEvent::Transfer(Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_)) => {}
        }
    }

    /// Measures the transfer rate of the blobs.
    pub(crate) fn measure(&mut self, now: Instant) {
        self.transfers.iter_mut().for_each(|moving| moving.measure(now));
    }

    /// Returns the number of blobs in flight.
    pub(crate) fn transfers(&self) -> usize {
        self.transfers.len()
    }

    /// Returns the transfers that the snapshot lists.
    pub(crate) fn shown_transfers(&self) -> Vec<TransferState> {
        self.transfers.iter().take(LISTED).map(Moving::shown).collect()
    }

    /// Copies the progress of the entry's run into `running`.
    pub(crate) fn show(&self, entry: &str, running: &mut RunningState) {
        let Some(run) = self.runs.get(entry) else { return };
        (running.counts, running.tags, running.bytes) = (run.counts, run.tags, self.sent(entry));
    }

    /// Returns the number of bytes that the run of an entry has sent.
    pub(crate) fn sent(&self, entry: &str) -> u64 {
        let ended = self.runs.get(entry).map_or(0, |run| run.bytes);
        let moving = self.transfers.iter().filter(|moving| moving.entry == entry);
        moving.map(|moving| moving.transfer.sent()).fold(ended, u64::saturating_add)
    }
}

impl Moving {
    fn measure(&mut self, now: Instant) {
        let (then, before) = self.measured;
        let passed = now.saturating_duration_since(then);
        if passed < MEASURED {
            return;
        }
        let sent = self.transfer.sent();
        let milliseconds = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let rate = sent.saturating_sub(before).saturating_mul(1000) / milliseconds;
        let smooth = |known: u64| known.saturating_mul(INERTIA).saturating_add(rate) / (INERTIA + 1);
        self.rate = Some(self.rate.map_or(rate, smooth));
        self.measured = (now, sent);
    }

    fn shown(&self) -> TransferState {
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
        let (digest, source_digest, tag, blobs) = (None, None, None, BlobCounts::default());
        RunEvent::Tag(Box::new(TagReport { source, target, tag, digest, source_digest, outcome, blobs, bytes: 0 }))
    }

    fn running(under_way: &UnderWay, entry: &str) -> RunningState {
        let mut running = RunningState {
            since: Utc::now(),
            trigger: "manual".into(),
            counts: TagCounts::default(),
            tags: None,
            bytes: 0,
        };
        under_way.show(entry, &mut running);
        running
    }

    #[test]
    fn a_run_tells_how_far_it_is_and_what_it_sent_until_it_ends() {
        let mut under_way = UnderWay::default();
        under_way.begins("api");
        assert_eq!(running(&under_way, "api").tags, None, "nothing is listed yet");
        let mut tell = |event| under_way.happened("api".into(), event, Utc::now());
        let (arrived, moving) = (blob(100), blob(1000));
        tell(RunEvent::Chosen(3));
        tell(RunEvent::Chosen(2));
        tell(tag(TagOutcome::Unchanged));
        tell(tag(TagOutcome::Copied));
        for transfer in [&arrived, &moving] {
            tell(RunEvent::Transfer(Event::TransferStarted(transfer.clone())));
        }
        arrived.advance(100);
        moving.advance(40);
        tell(RunEvent::Transfer(Event::TransferFinished(arrived)));
        let told = running(&under_way, "api");
        assert_eq!((told.tags, told.counts.to_string().as_str(), told.bytes), (Some(5), "1 copied, 1 unchanged", 140));
        assert_eq!(under_way.shown_transfers().iter().map(|transfer| transfer.sent).collect::<Vec<_>>(), [40]);
        under_way.ends("api");
        assert_eq!((under_way.transfers(), running(&under_way, "api").bytes), (0, 0));
        under_way.happened("api".into(), RunEvent::Chosen(1), Utc::now());
        assert_eq!(running(&under_way, "api").tags, None, "what comes late is of no run");
    }

    #[test]
    fn what_an_earlier_process_sent_is_shown_of_the_blob_and_not_counted_for_the_run() {
        let mut under_way = UnderWay::default();
        under_way.begins("api");
        let transfer = Transfer::resumed("h/a", "t/a", Digest::of(b"blob"), 100, 60);
        under_way.happened("api".into(), RunEvent::Transfer(Event::TransferStarted(transfer.clone())), Utc::now());
        let told = |under_way: &UnderWay| (under_way.shown_transfers()[0].sent, running(under_way, "api").bytes);
        assert_eq!(told(&under_way), (60, 0));
        transfer.advance(15);
        assert_eq!(told(&under_way), (75, 15));
        let failed = Event::TransferFailed(transfer, "broke off".into());
        under_way.happened("api".into(), RunEvent::Transfer(failed), Utc::now());
        assert_eq!(under_way.sent("api"), 15);
    }

    #[test]
    fn a_rate_follows_what_was_sent_over_seconds() {
        let mut under_way = UnderWay::default();
        under_way.begins("api");
        let transfer = blob(1 << 30);
        under_way.happened("api".into(), RunEvent::Transfer(Event::TransferStarted(transfer.clone())), Utc::now());
        let rate = |under_way: &UnderWay| under_way.shown_transfers()[0].bytes_per_second;
        let began = under_way.transfers[0].measured.0;
        under_way.measure(began + Duration::from_millis(999));
        assert_eq!(rate(&under_way), None);
        transfer.advance(4000);
        under_way.measure(began + Duration::from_secs(2));
        assert_eq!(rate(&under_way), Some(2000));
        under_way.measure(began + Duration::from_secs(3));
        assert_eq!(rate(&under_way), Some(1500), "a short stop does not make it zero");
    }

    #[test]
    fn so_many_transfers_are_listed_and_all_are_counted() {
        let mut under_way = UnderWay::default();
        under_way.begins("api");
        for _ in 0..LISTED + 1 {
            under_way.happened("api".into(), RunEvent::Transfer(Event::TransferStarted(blob(1))), Utc::now());
        }
        assert_eq!((under_way.shown_transfers().len(), under_way.transfers()), (LISTED, LISTED + 1));
    }
}
