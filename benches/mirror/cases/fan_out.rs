//! Cases `three-targets` and `slow-third*`: a copy from one source to three targets. In `slow-third*`, the third target
//! is slow.

use std::time::Duration;

use super::cold::wall;
use crate::Bench;
use crate::corpus::{self, Corpus};
use crate::meter::Setup;
use crate::report::{Figure, Report};
use crate::stage::{Run, Stage};
use crate::tools::Tool;

pub(super) fn three(bench: &Bench) -> anyhow::Result<Report> {
    let filled = bench.whole()?;
    let mut report = Report::new("three-targets");
    for round in 1..=bench.options.rounds {
        for tool in [bench.floor()?, Tool::Transship].into_iter().chain(bench.others.iter().cloned()) {
            let stage = Stage::new(bench, &filled.registry, Setup::default(), vec![Setup::default(); 3])?;
            report.runs.push(stage.run(&tool, round, &filled.corpus)?);
        }
    }
    let read = report.median("transship", |run| run.source.bytes_read as f64);
    let floors = report.median("floor", |run| run.source.bytes_read as f64);
    report.figures = vec![
        Figure::time("time / floor's", report.ratio("transship", "floor", wall), 1.25),
        // On a busy machine, a target may stall for a second. The tool then reads the blob separately for this target.
        // The counts vary like times, so the figures are times.
        Figure::time("blobs read or written twice", report.median("transship", |run| run.duplicates() as f64), 0.0),
        Figure::time("bytes read / floor's", read / floors, 1.01),
    ];
    Ok(report)
}

/// Compares the time for two targets with the time for the same two targets and a third, slow target. The slow target
/// has a tenth of the bandwidth.
pub(super) fn slow_third(bench: &Bench) -> anyhow::Result<Report> {
    // The slow target takes ten times longer, so this case uses a quarter of the corpus size.
    slow(bench, "slow-third", corpus::registry(bench.options.seed, bench.options.scale / 4.0))
}

/// Compares as [`slow_third`] does. The corpus is one repository whose tags share their layers.
pub(super) fn slow_third_shared(bench: &Bench) -> anyhow::Result<Report> {
    // The tool needs 0.3 s to detect the slow target. With a large corpus, this time is a small part of the run.
    slow(bench, "slow-third-shared", corpus::forty_tags(bench.options.scale * 8.0))
}

fn slow(bench: &Bench, name: &'static str, corpus: Corpus) -> anyhow::Result<Report> {
    let source = bench.filled(corpus)?;
    let mut report = Report::new(name);
    for round in 1..=bench.options.rounds {
        let alone = Stage::new(bench, &source.registry, Setup::default(), vec![Setup::default(); 2])?;
        let mut run = alone.run(&Tool::Transship, round, &source.corpus)?;
        let took = committed(&run);
        run.tool = "transship, two alone".into();
        report.runs.push(run);
        let bandwidth = source.corpus.bytes() as f64 / took / 10.0;
        let slow = Setup { bandwidth: Some(bandwidth as u64), ..Setup::default() };
        let targets = vec![Setup::default(), Setup::default(), slow];
        let stage = Stage::new(bench, &source.registry, Setup::default(), targets)?;
        let mut run = stage.run(&Tool::Transship, round, &source.corpus)?;
        run.tool = "transship, slow third".into();
        report.runs.push(run);
    }
    let ratio = report.ratio("transship, slow third", "transship, two alone", committed);
    let all = report.ratio("transship, slow third", "transship, two alone", wall);
    report.figures = vec![Figure::time("the other two / their time alone", ratio, 1.2)];
    report.notes.push(format!("all three took {all:.1} times as long as the two alone"));
    Ok(report)
}

/// Returns the time in seconds until the first two targets received their last manifest.
fn committed(run: &Run) -> f64 {
    let began = run.usage.began;
    let last = run.targets.iter().take(2).filter_map(|target| target.last_commit).max();
    let took = began.zip(last).map_or(Duration::ZERO, |(began, last)| last.saturating_duration_since(began));
    took.as_secs_f64()
}
