//! Case `warm-40ms`: a run to a registry that already has all content. A second run follows after the source received a
//! new referrer.

use std::time::Duration;

use anyhow::Context as _;

use super::{DISTANT, cold::wall};
use crate::Bench;
use crate::corpus::{self, Corpus};
use crate::report::{Figure, Report};
use crate::stage::{Run, Stage};
use crate::tools::Tool;

pub(super) fn warm(bench: &Bench) -> anyhow::Result<Report> {
    let filled = bench.whole()?;
    let mut report = Report::new("warm-40ms");
    // The case changes its source, so the source is a separate registry.
    let source = bench.filled(filled.corpus.clone())?;
    let stage = Stage::simple(bench, &source.registry, Duration::ZERO)?;
    stage.run(&Tool::Transship, 0, &source.corpus)?;
    stage.set_round_trip(DISTANT);
    for round in 1..=bench.options.rounds {
        report.runs.push(stage.run(&Tool::Transship, round, &source.corpus)?);
    }
    let late = late_referrer(bench, &stage, &source.registry, source.corpus.clone())?;
    report.notes.push(format!("a referrer that appeared since: found with {} requests in all", late.requests()));
    report.runs.push(late);
    for tool in &bench.others {
        report.runs.extend(others(bench, &filled.registry, tool, &filled.corpus, bench.options.rounds)?);
    }
    if !bench.options.no_skopeo {
        report.runs.extend(others(bench, &filled.registry, &Tool::Skopeo, &filled.corpus, 1)?);
        report.notes.push("skopeo: one run".into());
    }
    let most = source.corpus.repositories.len() + 2 * source.corpus.tags();
    let requests = report.median("transship", |run| run.requests() as f64);
    report.figures = vec![
        Figure::time("time, s", report.median("transship", wall), 0.5),
        Figure::count("requests", requests, most as f64),
    ];
    Ok(report)
}

fn others(
    bench: &Bench,
    source: &crate::registries::Registry,
    tool: &Tool,
    corpus: &Corpus,
    rounds: usize,
) -> anyhow::Result<Vec<Run>> {
    let stage = Stage::simple(bench, source, Duration::ZERO)?;
    stage.run(tool, 0, corpus)?;
    stage.set_round_trip(DISTANT);
    (1..=rounds).map(|round| stage.run(tool, round, corpus)).collect()
}

fn late_referrer(
    bench: &Bench,
    stage: &Stage<'_>,
    source: &crate::registries::Registry,
    mut corpus: Corpus,
) -> anyhow::Result<Run> {
    let (at, referrer) = corpus::add_referrer(&mut corpus).context("the corpus has a list of referrers")?;
    let repository = &corpus.repositories[at];
    bench.wait(source.refill(repository, &corpus))?;
    let mut run = stage.run(&Tool::Transship, bench.options.rounds + 1, &corpus)?;
    run.tool = "transship, referrer".into();
    let arrived = bench.wait(stage.targets[0].registry.digest(&repository.name, &referrer))?;
    if arrived.is_none() {
        run.missing.push(format!("the late referrer {referrer} of {}", repository.name));
    }
    Ok(run)
}
