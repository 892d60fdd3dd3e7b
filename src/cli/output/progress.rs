//! Progress of transfers on a terminal: one bar for each blob in flight, and the total.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units;
use crate::copy::event::{Event, Transfer};

/// Largest number of transfers with a bar. The total counts the other transfers.
const BARS: usize = 8;
/// Interval between two updates of the bars.
pub(crate) const REFRESH: Duration = Duration::from_millis(100);

/// Progress bars of a run. Without a terminal, this type only counts bytes.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    sum: ProgressBar,
    moving: Vec<(Arc<Transfer>, Option<ProgressBar>)>,
    /// Bytes of transfers that ended.
    finished: AtomicU64,
}

impl Progress {
    /// Shows progress in `bars` if standard error is a terminal.
    #[must_use]
    pub fn new(bars: MultiProgress) -> Self {
        if super::writer::stderr_is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        let sum =
            bars.add(ProgressBar::new_spinner().with_style(style("{spinner} {bytes} sent, {bytes_per_sec}{msg}")));
        Self { bars, sum, moving: Vec::new(), finished: AtomicU64::new(0) }
    }

    /// Applies an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::TransferStarted(transfer) => {
                let bar = (self.bars_shown() < BARS).then(|| self.bar(transfer));
                self.moving.push((transfer.clone(), bar));
            }
            Event::TransferFinished(transfer) => self.end(transfer),
            Event::TransferFailed(transfer, _) => self.end(transfer),
            Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_) => {}
        }
    }

    /// Draws the state of the transfers. The caller calls it every `REFRESH`.
    pub fn refresh(&self) {
        for (transfer, bar) in &self.moving {
            if let Some(bar) = bar {
                bar.set_position(transfer.position());
            }
        }
        self.sum.set_position(self.sent());
        self.sum.set_message(self.rest());
    }

    /// Returns the number of bytes sent so far, including those of failed transfers.
    #[must_use]
    pub fn sent(&self) -> u64 {
        let moving: u64 = self.moving.iter().map(|(transfer, _)| transfer.sent()).sum();
        self.finished.load(Ordering::Relaxed) + moving
    }

    /// Removes all bars.
    pub fn end_all(&mut self) {
        for (_, bar) in self.moving.drain(..) {
            bar.inspect(ProgressBar::finish_and_clear);
        }
        self.sum.finish_and_clear();
    }

    fn bars_shown(&self) -> usize {
        self.moving.iter().filter(|(_, bar)| bar.is_some()).count()
    }

    fn bar(&self, transfer: &Transfer) -> ProgressBar {
        // Without its bar, a line takes 65 columns, so that it does not wrap on a terminal of 80 columns.
        let template = "  {prefix} {wide_bar} {percent:>3}% {total_bytes:>10} {bytes_per_sec:>12}";
        let bar = ProgressBar::new(transfer.size).with_style(style(template));
        bar.set_prefix(format!("{} {}", transfer.digest.short(), shortened(&transfer.target)));
        self.bars.insert_before(&self.sum, bar)
    }

    fn end(&mut self, ended: &Arc<Transfer>) {
        let Some(at) = self.moving.iter().position(|(transfer, _)| Arc::ptr_eq(transfer, ended)) else { return };
        let (transfer, bar) = self.moving.remove(at);
        self.finished.fetch_add(transfer.sent(), Ordering::Relaxed);
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.show_next();
    }

    /// Assigns the freed bar to a transfer that has none.
    fn show_next(&mut self) {
        if let Some(at) = self.moving.iter().position(|(_, bar)| bar.is_none()) {
            let bar = self.bar(&self.moving[at].0);
            self.moving[at].1 = Some(bar);
        }
    }

    fn rest(&self) -> String {
        let unseen: Vec<&Arc<Transfer>> =
            self.moving.iter().filter(|(_, bar)| bar.is_none()).map(|(transfer, _)| transfer).collect();
        match unseen.len() {
            0 => String::new(),
            count => format!(", {count} more in flight ({})", units::bytes(unseen.iter().map(|t| t.size).sum())),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants. A broken one would show in the tests as a plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Returns the last part of a long place, or the padded text of a short one.
fn shortened(place: &str) -> String {
    const WIDTH: usize = 20;
    let length = place.chars().count();
    if length <= WIDTH {
        return format!("{place:<WIDTH$}");
    }
    format!("…{}", place.chars().skip(length + 1 - WIDTH).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn transfer(name: &str) -> Arc<Transfer> {
        Transfer::new("s/x", "t/x", Digest::of(name.as_bytes()), 100)
    }

    #[test]
    fn bytes_are_counted_during_and_after_transfers() {
        let mut progress = Progress::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()));
        let (one, two) = (transfer("one"), transfer("two"));
        progress.event(&Event::TransferStarted(one.clone()));
        progress.event(&Event::TransferStarted(two.clone()));
        one.advance(100);
        two.advance(30);
        assert_eq!(progress.sent(), 130);
        progress.event(&Event::TransferFinished(one));
        progress.event(&Event::TransferFailed(two, "gone".into()));
        assert_eq!((progress.sent(), progress.moving.len()), (130, 0));
    }

    #[test]
    fn transfers_beyond_the_bars_are_counted_and_shown_later() {
        let mut progress = Progress::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden()));
        let transfers: Vec<_> = (0..BARS + 2).map(|at| transfer(&at.to_string())).collect();
        for transfer in &transfers {
            progress.event(&Event::TransferStarted(transfer.clone()));
        }
        assert_eq!((progress.bars_shown(), progress.rest()), (BARS, ", 2 more in flight (200 B)".to_owned()));
        progress.event(&Event::TransferFinished(transfers[0].clone()));
        assert_eq!((progress.bars_shown(), progress.rest()), (BARS, ", 1 more in flight (100 B)".to_owned()));
    }

    #[test]
    fn long_place_keeps_its_end() {
        let long = "prod.example.com/a/very/long/repository/name/indeed";
        assert_eq!(shortened(long), "…ository/name/indeed");
        assert_eq!(shortened("t/x").len(), 20);
    }
}
