//! Progress of the runs on a terminal: a block of lines below the log, which is drawn again several times a second.

mod model;

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) use model::Wait;

use self::model::ProgressModel;
use crate::sync::RunEvent;

/// Interval between two drawings.
pub(crate) const REFRESH: Duration = Duration::from_millis(100);

/// Size of a terminal that does not report its size: height and width.
const DEFAULT_SIZE: (u16, u16) = (24, 80);

/// Progress of the runs of one command. Drawn only on a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    model: ProgressModel,
    /// Bar whose message is the whole block. Several bars left stale lines behind when their number changed.
    block: ProgressBar,
    size: fn() -> Option<(u16, u16)>,
}

impl Progress {
    /// Draws on standard error, above the lines that `bars` belongs to.
    #[must_use]
    pub(crate) fn on_stderr(bars: &MultiProgress) -> Self {
        bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self::new(bars, || console::Term::stderr().size_checked())
    }

    fn new(bars: &MultiProgress, size: fn() -> Option<(u16, u16)>) -> Self {
        // The template is a constant. A broken one would show in the tests.
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let block = bars.add(ProgressBar::no_length().with_style(style));
        Self { model: ProgressModel::default(), block, size }
    }

    /// Applies an event of the run of `entry`.
    pub(crate) fn apply(&mut self, entry: &str, event: RunEvent) {
        self.model.apply(entry, event);
    }

    /// Draws the state of the runs. The caller calls this every `REFRESH`.
    pub(crate) fn refresh(&mut self, waits: &[Wait]) {
        let size = (self.size)().unwrap_or(DEFAULT_SIZE);
        let lines = self.model.lines(Instant::now(), size, waits);
        self.block.set_message(lines.join("\n"));
        self.block.tick();
    }

    /// Removes the block.
    pub(crate) fn clear(&self) {
        self.block.finish_and_clear();
    }
}
