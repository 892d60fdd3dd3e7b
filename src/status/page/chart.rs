//! Charts of an entry's runs. Each run has a bar, whose height shows the number of bytes sent. A run that did not
//! succeed has a sign below its bar.
//!
//! The scale is logarithmic, because the first run of a mirror may send a thousand times the bytes of later runs. The
//! signs differ in shape, not only in colour.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::{format_bytes, format_clock, format_count};
use crate::journal::{Outcome, RunMark};
use crate::status::history::{MARKS, RUNS};

/// Layout of the bars, in units of the picture.
struct Layout {
    /// The distance from the left edge to the first slot.
    left: u32,
    /// The distance from one bar to the next.
    step: u32,
    /// The y coordinate of the base line.
    base: u32,
    /// The height of the highest bar.
    height: u32,
    /// The maximum number of slots for bars. The last slot is for the latest run.
    slots: u32,
}

/// Minimum number of slots of the large chart. A chart of fewer runs would be narrower than its labels.
const FEWEST_SLOTS: u32 = 20;

/// Minimum number of runs in a large chart. A single bar has no other bar to be compared with.
const FEWEST_RUNS: usize = 2;

const SMALL: Layout = Layout { left: 0, step: 5, base: 22, height: 20, slots: MARKS };
const LARGE: Layout = Layout { left: 50, step: 8, base: 118, height: 106, slots: RUNS };

/// Sizes for which the large chart has grid lines.
const LINES: [(u64, &str); 4] = [(1 << 10, "1 KiB"), (1 << 20, "1 MiB"), (1 << 30, "1 GiB"), (1 << 40, "1 TiB")];

/// CSS classes of the signs of runs that did not succeed.
const SIGNS: [(&str, Option<Outcome>); 5] = [
    ("failed", Some(Outcome::Failed)),
    ("failed", Some(Outcome::TimedOut)),
    ("interrupted", Some(Outcome::Interrupted)),
    ("deferred", Some(Outcome::Deferred)),
    ("running", None),
];

/// Renders the chart in a table row, with words if there is only one run. `runs` ends with the latest run.
pub(super) fn render_small(runs: &[RunMark], now: DateTime<Utc>) -> Markup {
    if runs.is_empty() {
        return html! { span .quiet { "no runs yet" } };
    }
    let largest = largest_run(runs);
    let mut bars = String::new();
    let mut signs: [String; SIGNS.len()] = Default::default();
    for (run, x) in SMALL.with_positions(runs) {
        // Writing to a String cannot fail.
        let _ = write!(bars, "M{x} {}v-{}", SMALL.base, SMALL.height_of(run.bytes, largest));
        for ((_, outcome), signs) in SIGNS.iter().zip(&mut signs) {
            if *outcome == run.outcome {
                signs.push_str(&sign_path(run.outcome, x, SMALL.base + 5));
            }
        }
    }
    html! {
        svg .small viewBox="0 0 150 31" role="img" aria-label=(describe(runs, now)) {
            title { (describe(runs, now)) }
            path .axis d={ "M0 " (SMALL.base) ".5h150" } {}
            path .bar d=(bars) {}
            @for ((class, _), signs) in SIGNS.iter().zip(&signs) {
                @if !signs.is_empty() { path .(class) d=(signs) {} }
            }
        }
        @if let [run] = runs { small { "1 run, " (format_bytes(run.bytes)) " sent" } }
    }
}

/// Renders the chart on an entry's page: nothing for a single run. Each bar links to the table row of its run. The
/// chart is as wide as its runs need. `runs` ends with the latest run.
pub(super) fn render_large(runs: &[RunMark], now: DateTime<Utc>) -> Markup {
    if runs.len() < FEWEST_RUNS {
        return html! {};
    }
    let largest = largest_run(runs);
    let needed = u32::try_from(runs.len()).unwrap_or(u32::MAX).clamp(FEWEST_SLOTS, LARGE.slots);
    let layout = Layout { slots: needed, ..LARGE };
    let positioned: Vec<_> = layout.with_positions(runs).collect();
    let right = layout.left + layout.slots * layout.step;
    html! {
        svg .large viewBox={ "0 0 " (right) " 146" } width=(right * 7 / 5) role="group"
            aria-label=(describe(runs, now)) {
            title { (describe(runs, now)) }
            @for (size, name) in LINES.iter().filter(|(size, _)| *size < largest) {
                @let y = LARGE.base - LARGE.height_of(*size, largest);
                path .grid d={ "M" (LARGE.left) " " (y) ".5H" (right) } {}
                text x=(LARGE.left - 6) y=(y + 4) text-anchor="end" { (name) }
            }
            path .axis d={ "M" (LARGE.left) " " (LARGE.base) ".5H" (right) } {}
            @for (run, x) in &positioned { (bar(run, *x, largest, now)) }
            @if let (Some((first, x)), Some((last, _))) = (positioned.first(), positioned.last()) {
                @if positioned.len() >= 30 {
                    text x=(x - LARGE.step / 2) y="144" { (format_clock(first.started, now)) }
                }
                text x=(right) y="144" text-anchor="end" { (format_clock(last.started, now)) }
            }
        }
    }
}

fn bar(run: &RunMark, x: u32, largest: u64, now: DateTime<Utc>) -> Markup {
    let height = LARGE.height_of(run.bytes, largest);
    let word = run.outcome.map_or("running", Outcome::word).replace('_', " ");
    let label = format!("run {}, {}: {word}, {}", run.run, format_clock(run.started, now), format_bytes(run.bytes));
    html! {
        a href={ "#run-" (run.run.number()) } aria-label=(label) {
            title { (label) }
            rect .hit x=(x - LARGE.step / 2) y="4" width=(LARGE.step) height="128" {}
            rect .bar x=(x - 2) y=(LARGE.base - height) width="5" height=(height) {}
            @if let Some((class, _)) = SIGNS.iter().find(|(_, outcome)| *outcome == run.outcome) {
                path .(class) d=(sign_path(run.outcome, x, LARGE.base + 7)) {}
            }
        }
    }
}

impl Layout {
    /// Returns each run that has a slot, with the x coordinate of the slot's middle.
    fn with_positions<'a>(&self, runs: &'a [RunMark]) -> impl Iterator<Item = (&'a RunMark, u32)> {
        let (first, step) = (self.left + self.step / 2, self.step);
        let count = u32::try_from(runs.len()).unwrap_or(u32::MAX).min(self.slots);
        let shown = &runs[runs.len() - count as usize..];
        (self.slots - count..).zip(shown).map(move |(slot, run)| (run, first + slot * step))
    }

    /// Returns the height of a bar. It is at least 1, so that a run that sent nothing is visible.
    fn height_of(&self, bytes: u64, largest: u64) -> u32 {
        let share = share(bytes, largest);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the height")]
        let height = (share * f64::from(self.height)).round() as u32;
        height.clamp(1, self.height)
    }
}

/// Returns the logarithmic height of a bar, as a share of the highest bar from 0 to 1. Sizes far below 1 KiB have a
/// share near 0.
#[expect(clippy::cast_precision_loss, reason = "a picture needs far less precision than 53 bits")]
fn share(bytes: u64, largest: u64) -> f64 {
    let scaled = |bytes: u64| (1.0 + bytes as f64 / 1024.0).log2();
    if largest == 0 { 0.0 } else { scaled(bytes) / scaled(largest) }
}

/// Returns the path of a sign: a cross for failed, a dash for interrupted, a ring for deferred, a triangle for
/// running.
fn sign_path(outcome: Option<Outcome>, x: u32, y: u32) -> String {
    match outcome {
        Some(Outcome::Succeeded) => String::new(),
        Some(Outcome::Failed | Outcome::TimedOut) => format!("M{} {}l4 4m0-4l-4 4", x - 2, y - 2),
        Some(Outcome::Interrupted) => format!("M{} {y}h4", x - 2),
        Some(Outcome::Deferred) => format!("M{} {y}a2 2 0 1 0 4 0a2 2 0 1 0-4 0", x - 2),
        None => format!("M{} {}l4 2.5l-4 2.5z", x - 2, y - 3),
    }
}

fn largest_run(runs: &[RunMark]) -> u64 {
    runs.iter().map(|run| run.bytes).max().unwrap_or_default()
}

/// Describes the chart in words, for screen readers and tooltips.
fn describe(runs: &[RunMark], now: DateTime<Utc>) -> String {
    let Some(first) = runs.first() else { return "no runs yet".to_owned() };
    let mut words =
        vec![format!("{} since {}", format_count(runs.len(), "run", "runs"), format_clock(first.started, now))];
    let all = [Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut, Outcome::Interrupted, Outcome::Deferred];
    for outcome in all.into_iter().map(Some).chain([None]) {
        let count = runs.iter().filter(|run| run.outcome == outcome).count();
        if count > 0 {
            words.push(format!("{count} {}", outcome.map_or("running", Outcome::word).replace('_', " ")));
        }
    }
    words.push(format!("at most {} sent by a run", format_bytes(largest_run(runs))));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::mark;
    use super::*;
    use crate::status::snapshot::tests::second;

    #[test]
    fn unsuccessful_runs_have_signs_of_distinct_shapes() {
        let ends =
            [Some(Outcome::Succeeded), Some(Outcome::Failed), Some(Outcome::Interrupted), Some(Outcome::Deferred)];
        let mut runs: Vec<_> =
            ends.iter().enumerate().map(|(i, end)| mark("a", i as i64, *end, 1 << (10 * i))).collect();
        runs.push(mark("a", 9, None, 0));
        let drawn = render_small(&runs, second(0)).into_string();
        assert!(drawn.contains("<title>5 runs since "), "{drawn}");
        for (class, shape) in
            [("failed", "l4 4m0-4l-4 4"), ("interrupted", "h4"), ("deferred", "a2 2"), ("running", "z")]
        {
            let path = drawn.split("<path ").find(|path| path.starts_with(&format!("class=\"{class}\"")));
            assert!(path.is_some_and(|path| path.contains(shape)), "{class}: {drawn}");
        }
        // The bars of 1 B, 1 KiB, 1 MiB, 1 GiB and 0 B. The latest run is at the right edge.
        assert!(drawn.contains("d=\"M127 22v-1M132 22v-1M137 22v-10M142 22v-20M147 22v-1\""), "{drawn}");
    }

    #[test]
    fn large_chart_links_to_rows_and_shows_latest_runs() {
        let runs: Vec<_> = (0..100).map(|i| mark("a", i, Some(Outcome::Succeeded), 1 << 30)).collect();
        let drawn = render_large(&runs, second(0)).into_string();
        assert_eq!(drawn.matches("<a href=\"#run-").count(), RUNS as usize);
        assert!(drawn.contains("#run-99\"") && !drawn.contains("#run-1\""), "{drawn}");
        assert!(drawn.contains(">1 MiB<"), "{drawn}");
    }

    #[test]
    fn few_runs_are_described_in_words() {
        assert_eq!(render_small(&[], second(0)).into_string(), "<span class=\"quiet\">no runs yet</span>");
        let one = [mark("a", 0, Some(Outcome::Succeeded), 4096)];
        let drawn = render_small(&one, second(0)).into_string();
        assert!(drawn.ends_with("</svg><small>1 run, 4.00 KiB sent</small>"), "{drawn}");
        assert_eq!(render_large(&one, second(0)).into_string(), "", "the table has the only run");
    }

    #[test]
    fn large_chart_of_few_runs_is_narrow() {
        let runs: Vec<_> = (0..3).map(|i| mark("a", i, Some(Outcome::Succeeded), 1 << 30)).collect();
        let drawn = render_large(&runs, second(0)).into_string();
        assert!(drawn.contains("viewBox=\"0 0 210 146\" width=\"294\""), "{drawn}");
    }
}
