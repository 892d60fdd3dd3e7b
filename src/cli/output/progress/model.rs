//! State of the runs in progress, and its lines for a terminal. Pure: the caller passes the time, the size of the
//! terminal and the waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::output::escape::printable;
use crate::cli::output::units;
use crate::copy::event::{Event, PlannedBytes, Transfer};
use crate::sync::RunEvent;

/// Maximum number of lines for transfers.
const TRANSFERS: usize = 4;

/// Maximum number of lines for waits.
const WAITS: usize = 3;

/// Minimum time between two measurements of the rate.
const MEASURED: Duration = Duration::from_millis(500);

/// Number of measurements after which the rate has mostly forgotten an older value.
const INERTIA: f64 = 5.0;

/// Width of the bar of a transfer, in columns.
const BAR: usize = 15;

/// Number of columns for the repository of a transfer.
const PLACE: usize = 24;

/// Reason for which requests to a registry wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Host of the registry.
    pub(crate) registry: String,
    /// Time until the next request.
    pub(crate) remaining: Duration,
}

/// Runs in progress and their transfers.
#[derive(Debug, Default)]
pub(super) struct ProgressModel {
    /// Runs in the order of their start.
    runs: Vec<RunInProgress>,
}

#[derive(Debug)]
struct RunInProgress {
    entry: String,
    /// Number of tags that were selected so far; `None` before the source was listed.
    tags: Option<u64>,
    tags_done: u64,
    planned: Arc<PlannedBytes>,
    transfers: Vec<Arc<Transfer>>,
    /// Bytes of the blobs whose transfer has finished.
    finished: u64,
    /// Bytes that ended transfers passed to the target, those of failed transfers included.
    sent: u64,
    rate: Rate,
}

/// Smoothed rate of a run, in bytes per second.
#[derive(Debug, Default)]
struct Rate {
    measured: Option<(Instant, u64)>,
    bytes_per_second: Option<f64>,
}

impl Rate {
    fn measure(&mut self, now: Instant, sent: u64) {
        let Some((then, before)) = self.measured else {
            self.measured = Some((now, sent));
            return;
        };
        let elapsed = now.saturating_duration_since(then);
        if elapsed < MEASURED {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "people read only the first digits of a rate")]
        let rate = sent.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let smoothed = |old: f64| (old * (INERTIA - 1.0) + rate) / INERTIA;
        self.bytes_per_second = Some(self.bytes_per_second.map_or(rate, smoothed));
        self.measured = Some((now, sent));
    }
}

impl ProgressModel {
    /// Applies an event of the run of `entry`.
    pub(super) fn apply(&mut self, entry: &str, event: RunEvent) {
        match event {
            RunEvent::Started(planned) => self.runs.push(RunInProgress::new(entry, planned)),
            RunEvent::Ended => self.runs.retain(|run| run.entry != entry),
            RunEvent::Chosen(tags) => self.change(entry, |run| run.tags = Some(run.tags.unwrap_or(0) + tags)),
            RunEvent::Tag(_) => self.change(entry, |run| run.tags_done += 1),
            RunEvent::Transfer(event) => self.change(entry, |run| run.apply(event)),
        }
    }

    fn change(&mut self, entry: &str, change: impl FnOnce(&mut RunInProgress)) {
        // The events of one run arrive in order: events before its start or after its end do not exist.
        if let Some(run) = self.runs.iter_mut().find(|run| run.entry == entry) {
            change(run);
        }
    }

    /// Returns the lines for a terminal of this size, each shorter than its width: a line for each run, the largest
    /// transfers, and the waits. Leaves one line of the terminal free.
    pub(super) fn lines(&mut self, now: Instant, (height, width): (u16, u16), waits: &[Wait]) -> Vec<String> {
        let (height, width) = (usize::from(height).saturating_sub(1).max(1), usize::from(width).saturating_sub(1));
        self.runs.iter_mut().for_each(|run| run.rate.measure(now, run.sent()));
        let waits = self.wait_lines(waits, height);
        let transfers = self.transfer_lines(height.saturating_sub(waits.len() + self.runs.len()));
        let free = height.saturating_sub(waits.len() + transfers.len()).max(1);
        let mut lines = self.run_lines(free);
        lines.extend(transfers);
        lines.extend(waits);
        lines.truncate(height);
        lines.iter().map(|line| cut(&printable(line), width)).collect()
    }

    /// Returns a line for each run. If they do not fit, the last line counts the others.
    fn run_lines(&self, free: usize) -> Vec<String> {
        let name = self.runs.iter().map(|run| run.entry.chars().count()).max().unwrap_or(0).min(24);
        let shown = if self.runs.len() > free { free - 1 } else { self.runs.len() };
        let mut lines: Vec<String> = self.runs.iter().take(shown).map(|run| run.line(name)).collect();
        if shown < self.runs.len() {
            lines.push(format!("and {} more entries", self.runs.len() - shown));
        }
        lines
    }

    fn transfer_lines(&self, free: usize) -> Vec<String> {
        let mut transfers: Vec<&Arc<Transfer>> = self.runs.iter().flat_map(|run| &run.transfers).collect();
        // The sort is stable, so that transfers of one size keep their lines.
        transfers.sort_by_key(|transfer| std::cmp::Reverse(transfer.size));
        let most = TRANSFERS.min(free);
        let shown = if transfers.len() > most { most.saturating_sub(1) } else { transfers.len() };
        let mut lines: Vec<String> = transfers.iter().take(shown).map(|transfer| transfer_line(transfer)).collect();
        let others = &transfers[shown..];
        if !others.is_empty() && most > 0 {
            let bytes = units::bytes(sum(others.iter().map(|transfer| transfer.size)));
            lines.push(format!("  and {} more blobs in transfer ({bytes})", others.len()));
        }
        lines
    }

    fn wait_lines(&self, waits: &[Wait], height: usize) -> Vec<String> {
        let free = height.saturating_sub(self.runs.len().min(height / 2)).min(WAITS);
        waits.iter().take(free).map(wait_line).collect()
    }

    /// Returns the bytes that all runs have sent so far, those of failed transfers included.
    #[cfg(test)]
    fn sent(&self) -> u64 {
        self.runs.iter().map(RunInProgress::sent).sum()
    }
}

impl RunInProgress {
    fn new(entry: &str, planned: Arc<PlannedBytes>) -> Self {
        Self {
            entry: entry.to_owned(),
            tags: None,
            tags_done: 0,
            planned,
            transfers: Vec::new(),
            finished: 0,
            sent: 0,
            rate: Rate::default(),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::TransferStarted(transfer) => self.transfers.push(transfer),
            Event::TransferFinished(transfer) => {
                self.finished = self.finished.saturating_add(transfer.size);
                self.end(&transfer);
            }
            Event::TransferFailed(transfer, _) => self.end(&transfer),
            Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_) => {}
        }
    }

    fn end(&mut self, ended: &Arc<Transfer>) {
        self.sent += ended.sent();
        self.transfers.retain(|transfer| !Arc::ptr_eq(transfer, ended));
    }

    /// Returns the bytes sent so far, those of failed transfers included.
    fn sent(&self) -> u64 {
        sum(self.transfers.iter().map(|transfer| transfer.sent()).chain([self.sent]))
    }

    /// Returns a line such as `api  3 of 12 tags  1.2 GiB of 4.5 GiB  35.1 MiB/s  ETA 1m 40s`.
    fn line(&self, name: usize) -> String {
        let mut line = format!("{:<name$}  ", self.entry);
        match self.tags {
            None => line.push_str("listing"),
            Some(tags) => line.push_str(&format!("{} of {tags} tags", self.tags_done)),
        }
        let done = sum(self.transfers.iter().map(|transfer| transfer.position()).chain([self.finished]));
        let total = self.planned.total().max(done);
        if total == 0 {
            return line;
        }
        line.push_str(&format!("  {} of {}", units::bytes(done), units::bytes(total)));
        if let Some(rate) = self.rate.bytes_per_second.filter(|rate| *rate >= 1.0) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rate is at least 1")]
            let whole = rate as u64;
            line.push_str(&format!("  {}/s", units::bytes(whole)));
            let seconds = (total - done) / whole.max(1);
            if done < total {
                line.push_str(&format!("  ETA {}", humantime::format_duration(Duration::from_secs(seconds.max(1)))));
            }
        }
        line
    }
}

/// Returns the sum of sizes. Manifests may state any size, so the sum stops at the maximum of its type.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Returns a line such as `  4f5e6d7c8b9a  prod.example/app  [=======>     ]  45% of 300.0 MiB`.
fn transfer_line(transfer: &Transfer) -> String {
    let position = transfer.position().min(transfer.size);
    let part = |of: usize| {
        let of = u64::try_from(of).unwrap_or(u64::MAX);
        let part = u128::from(position) * u128::from(of) / u128::from(transfer.size.max(1));
        usize::try_from(part).unwrap_or(usize::MAX)
    };
    let filled = part(BAR);
    let head = if filled < BAR { ">" } else { "" };
    let bar = format!("{}{head}", "=".repeat(filled));
    let place = shorten(&transfer.target, PLACE);
    let (digest, percent, size) = (transfer.digest.short(), part(100), units::bytes(transfer.size));
    format!("  {digest}  {place:<PLACE$}  [{bar:<BAR$}] {percent:>3}% of {size}")
}

fn wait_line(wait: &Wait) -> String {
    // A wait that is shown as zero seconds would look like a fault.
    let seconds = Duration::from_secs(wait.remaining.as_secs().max(1));
    format!("{}: rate limited, next request in {}", wait.registry, humantime::format_duration(seconds))
}

/// Returns the last part of a long repository.
fn shorten(place: &str, width: usize) -> String {
    let length = place.chars().count();
    if length <= width {
        return place.to_owned();
    }
    format!("…{}", place.chars().skip(length + 1 - width).collect::<String>())
}

/// Returns the text, cut to a number of columns.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn transfer(name: &str, size: u64) -> Arc<Transfer> {
        Transfer::new("s/x", "t.example/x", Digest::of(name.as_bytes()), size)
    }

    fn started(model: &mut ProgressModel, entry: &str, planned: u64) {
        let bytes = Arc::new(PlannedBytes::default());
        bytes.add(planned);
        model.apply(entry, RunEvent::Started(bytes));
    }

    fn begin(model: &mut ProgressModel, entry: &str, transfer: &Arc<Transfer>) {
        model.apply(entry, RunEvent::Transfer(Event::TransferStarted(transfer.clone())));
    }

    #[test]
    fn run_line_shows_tags_bytes_rate_and_eta() {
        let mut model = ProgressModel::default();
        let start = Instant::now();
        started(&mut model, "api", 10 << 20);
        assert_eq!(model.lines(start, (24, 80), &[]), ["api  listing  0 B of 10.0 MiB"]);
        model.apply("api", RunEvent::Chosen(12));
        let blob = transfer("blob", 4 << 20);
        begin(&mut model, "api", &blob);
        blob.advance(1 << 20);
        let lines = model.lines(start + Duration::from_secs(1), (24, 80), &[]);
        assert_eq!(lines[0], "api  0 of 12 tags  1.0 MiB of 10.0 MiB  1.0 MiB/s  ETA 9s");
        let digest = blob.digest.short();
        assert_eq!(lines[1], format!("  {digest}  t.example/x               [===>           ]  25% of 4.0 MiB"));
        model.apply("api", RunEvent::Transfer(Event::TransferFinished(blob)));
        assert_eq!(model.lines(start, (24, 80), &[]).len(), 1);
        assert_eq!(model.sent(), 1 << 20);
        model.apply("api", RunEvent::Ended);
        assert!(model.lines(start, (24, 80), &[]).is_empty());
    }

    #[test]
    fn largest_transfers_are_shown_and_others_counted() {
        let mut model = ProgressModel::default();
        started(&mut model, "api", 0);
        let transfers: Vec<_> = (1..=6).map(|size| transfer(&size.to_string(), size * 100)).collect();
        transfers.iter().for_each(|transfer| begin(&mut model, "api", transfer));
        let lines = model.lines(Instant::now(), (24, 80), &[]);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[1].contains(&transfers[5].digest.short()) && lines[1].ends_with("of 600 B"), "{lines:#?}");
        assert_eq!(lines[4], "  and 3 more blobs in transfer (600 B)");
    }

    #[test]
    fn sizes_beyond_any_disk_stop_at_the_maximum() {
        let mut model = ProgressModel::default();
        started(&mut model, "api", u64::MAX);
        for name in 0..6 {
            begin(&mut model, "api", &transfer(&name.to_string(), u64::MAX));
        }
        let lines = model.lines(Instant::now(), (24, 80), &[]);
        assert!(lines[4].starts_with("  and 3 more blobs in transfer ("), "{lines:#?}");
        let planned = PlannedBytes::default();
        planned.add(u64::MAX);
        planned.add(1);
        planned.remove(1);
        assert_eq!(planned.total(), u64::MAX - 1);
    }

    #[test]
    fn waits_name_registry_reason_and_remaining_time() {
        let mut model = ProgressModel::default();
        started(&mut model, "api", 0);
        let wait = Wait { registry: "docker.io".into(), remaining: Duration::from_millis(41_900) };
        let lines = model.lines(Instant::now(), (24, 80), &[wait]);
        assert_eq!(lines, ["api  listing", "docker.io: rate limited, next request in 41s"]);
    }

    #[test]
    fn lines_fit_any_terminal() {
        let mut model = ProgressModel::default();
        let long = "an-entry-with-a-long-name-".repeat(4);
        for number in 0..60 {
            let entry = format!("{long}{number}");
            started(&mut model, &entry, 5 << 30);
            begin(&mut model, &entry, &transfer(&entry, 1 << 30));
        }
        let wait = Wait { registry: "registry.example".repeat(9), remaining: Duration::from_secs(7200) };
        for (height, width) in [(1, 1), (2, 10), (5, 40), (24, 80), (100, 200)] {
            let lines = model.lines(Instant::now(), (height, width), &[wait.clone(), wait.clone()]);
            let (height, width) = (usize::from(height), usize::from(width));
            assert!(lines.len() < height.max(2), "{height}: {}", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() < width.max(1)), "{width}: {lines:#?}");
        }
        let lines = model.lines(Instant::now(), (24, 80), &[]);
        assert!(lines.iter().any(|line| line.starts_with("and ") && line.ends_with(" more entries")), "{lines:#?}");
    }
}
