//! Case `one-changed`: a run after one of many small tags changed. The case also measures time and memory for each
//! additional tag.

use std::time::Duration;

use anyhow::Context as _;

use super::DISTANT;
use crate::Bench;
use crate::corpus;
use crate::report::{Figure, Report};
use crate::stage::{Run, Stage};
use crate::tools::Tool;

pub(super) fn one_changed(bench: &Bench) -> anyhow::Result<Report> {
    let sizes = if bench.options.quick { [250, 500, 1_000] } else { [500, 5_000, 10_000] };
    let mut report = Report::new("one-changed");
    for tags in sizes {
        let runs = rounds(bench, tags)?;
        report.runs.extend(runs);
    }
    let name = |tags: usize| format!("transship, {tags}");
    let wall = |tags: usize| report.median(&name(tags), |run| run.usage.wall.as_secs_f64());
    let memory = |tags: usize| report.median(&name(tags), |run| run.usage.peak_mib);
    let [few, some, many] = sizes;
    // A slope does not depend on the fixed cost of a run.
    let slope = |value: &dyn Fn(usize) -> f64, from: usize, to: usize| (value(to) - value(from)) / (to - from) as f64;
    let kib = [slope(&memory, few, some), slope(&memory, some, many)].map(|mib| mib * 1024.0);
    let figures = vec![
        Figure::time(format!("one of {some} found and copied, s"), wall(some), 10.0),
        Figure::time(
            format!("time per tag, {many} / {few}"),
            (wall(many) / many as f64) / (wall(few) / few as f64),
            1.1,
        ),
        Figure::time(format!("memory for each further tag, up to {many} / up to {some}"), kib[1] / kib[0], 1.1),
    ];
    let ms = [wall(few) / few as f64, wall(some) / some as f64, wall(many) / many as f64].map(|s| s * 1000.0);
    let mib = [memory(few), memory(some), memory(many)];
    report.figures = figures;
    report.notes.push(format!(
        "at {few}, {some} and {many} tags: ms a tag {ms:.3?}, peak MiB {mib:.1?}, KiB for each further tag {kib:.1?}"
    ));
    Ok(report)
}

fn rounds(bench: &Bench, tags: usize) -> anyhow::Result<Vec<Run>> {
    let mut source = bench.filled(corpus::many_tags(tags))?;
    let stage = Stage::simple(bench, &source.registry, Duration::ZERO)?;
    bench.wait(stage.targets[0].registry.fill(&source.corpus))?;
    // The journal records the tags in this run, which is not measured.
    stage.run(&Tool::Transship, 0, &source.corpus)?;
    stage.set_round_trip(DISTANT);
    let mut runs = Vec::new();
    for round in 1..=bench.options.rounds {
        let middle = source.corpus.repositories.len() / 2;
        let repository = &mut source.corpus.repositories[middle];
        let (tag, manifest) = repository.change_a_tag(&round.to_string()).context("a tag to be changed")?;
        bench.wait(source.registry.put_manifest(&repository.name, &tag, &manifest))?;
        let mut run = stage.run(&Tool::Transship, round, &source.corpus)?;
        run.tool = format!("transship, {tags}");
        runs.push(run);
    }
    Ok(runs)
}
