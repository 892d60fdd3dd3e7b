//! Progress of the runs on a terminal: a block of lines below the log, redrawn several times a second.

mod model;

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

pub(crate) use model::Wait;

use self::model::ProgressModel;
use crate::sync::RunEvent;

/// Interval between two drawings.
pub(crate) const REFRESH: Duration = Duration::from_millis(100);

/// Default size of the terminal: height and width.
const DEFAULT_SIZE: (u16, u16) = (24, 80);

/// Progress of the runs of one command.
#[derive(Debug)]
pub(crate) struct Progress {
    model: ProgressModel,
    /// Bar whose message is the whole block. With several bars, old lines remained on the terminal.
    block: ProgressBar,
    size: fn() -> Option<(u16, u16)>,
}

impl Progress {
    /// Creates the progress on standard error, above the lines of `bars`.
    #[must_use]
    pub(crate) fn on_stderr(bars: &MultiProgress) -> Self {
        bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self::new(bars, || console::Term::stderr().size_checked())
    }

    fn new(bars: &MultiProgress, size: fn() -> Option<(u16, u16)>) -> Self {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let block = bars.add(ProgressBar::no_length().with_style(style));
        Self { model: ProgressModel::default(), block, size }
    }

    /// Applies an event of the run of `entry`.
    pub(crate) fn apply(&mut self, entry: &str, event: RunEvent) {
        self.model.apply(entry, event);
    }

    /// Draws the state of the runs. The caller calls the function every `REFRESH`.
    pub(crate) fn refresh(&mut self, waits: &[Wait]) {
        let size = (self.size)().unwrap_or(DEFAULT_SIZE);
        let lines = self.model.lines(Instant::now(), size, waits);
        self.block.set_message(lines.join("\n"));
        self.block.tick();
    }

    /// Removes the block from the terminal.
    pub(crate) fn clear(&self) {
        self.block.finish_and_clear();
    }
}
