//! Case `forty-tags`: one repository with many tags that share their layers.

use std::time::Duration;

use super::cold::wall;
use crate::Bench;
use crate::corpus;
use crate::report::{Figure, Report};
use crate::stage::Stage;
use crate::tools::Tool;

pub(super) fn forty_tags(bench: &Bench) -> anyhow::Result<Report> {
    let source = bench.filled(corpus::forty_tags(bench.options.scale))?;
    let mut report = Report::new("forty-tags");
    for round in 1..=bench.options.rounds {
        for tool in [bench.floor()?, Tool::Transship] {
            let stage = Stage::simple(bench, &source.registry, Duration::ZERO)?;
            report.runs.push(stage.run(&tool, round, &source.corpus)?);
        }
    }
    let blobs = source.corpus.blobs.len() as f64;
    report.figures = vec![
        Figure::count("blobs read", report.median("transship", |run| run.source.count("blob GET") as f64), blobs),
        Figure::count(
            "blobs written",
            report.median("transship", |run| run.targets[0].count("upload PUT") as f64),
            blobs,
        ),
        Figure::count("blobs read or written twice", report.median("transship", |run| run.duplicates() as f64), 0),
    ];
    report.notes.push(format!("{:.2} x the floor's time", report.ratio("transship", "floor", wall)));
    Ok(report)
}
