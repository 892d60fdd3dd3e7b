//! Cases `cold-*`: a copy of the whole test content (the corpus) to an empty registry.

use std::time::Duration;

use super::DISTANT;
use crate::Bench;
use crate::report::{Figure, Report};
use crate::stage::{Run, Stage};
use crate::tools::Tool;

pub(super) fn near(bench: &Bench) -> anyhow::Result<Report> {
    cold(bench, "cold-0ms", Duration::ZERO)
}

pub(super) fn distant(bench: &Bench) -> anyhow::Result<Report> {
    cold(bench, "cold-40ms", DISTANT)
}

fn cold(bench: &Bench, name: &'static str, round_trip: Duration) -> anyhow::Result<Report> {
    let filled = bench.whole()?;
    let mut tools = vec![bench.floor()?, Tool::Transship];
    tools.extend(bench.others.iter().cloned());
    let mut report = Report::new(name);
    for round in 1..=bench.options.rounds {
        for tool in &tools {
            report.runs.push(Stage::simple(bench, &filled.registry, round_trip)?.run(tool, round, &filled.corpus)?);
        }
    }
    if !bench.options.no_skopeo {
        let stage = Stage::simple(bench, &filled.registry, round_trip)?;
        report.runs.push(stage.run(&Tool::Skopeo, 1, &filled.corpus)?);
        report.notes.push("skopeo: one run".into());
    }
    let corpus = &filled.corpus;
    let unavoidable = corpus.unavoidable_requests() as f64;
    let floor_requests = report.median("floor", |run| run.requests() as f64);
    report.figures = vec![
        Figure::time("time / floor's", report.ratio("transship", "floor", wall), 1.25),
        Figure::time("client CPU / floor's", report.ratio("transship", "floor", cpu), 2.0),
        Figure::count("floor's requests / the unavoidable", floor_requests / unavoidable, 1.0),
        Figure::count(
            "requests / the unavoidable",
            report.median("transship", |run| run.requests() as f64) / unavoidable,
            1.25,
        ),
        Figure::count("blobs read or written twice", report.median("transship", |run| run.duplicates() as f64), 0),
        Figure::count(
            "blobs read",
            report.median("transship", |run| run.source.count("blob GET") as f64),
            corpus.blobs.len() as f64,
        ),
    ];
    Ok(report)
}

/// Returns the number of concurrent requests with which the floor is fastest. The function measures one run for each
/// number.
pub(crate) fn best_parallel(bench: &Bench) -> anyhow::Result<usize> {
    let filled = bench.whole()?;
    let mut best = (Duration::MAX, 0);
    for parallel in [16, 32, 64] {
        let stage = Stage::simple(bench, &filled.registry, Duration::ZERO)?;
        let took = stage.run(&Tool::Floor(parallel), 0, &filled.corpus)?.usage.wall;
        best = best.min((took, parallel));
    }
    Ok(best.1)
}

pub(super) fn wall(run: &Run) -> f64 {
    run.usage.wall.as_secs_f64()
}

pub(super) fn cpu(run: &Run) -> f64 {
    run.usage.cpu.as_secs_f64()
}
