//! Cases `lost-*`: a run after the target lost content. Between two runs, the benchmark removes images and their blobs
//! from the target, as retention and garbage collection do. The journal still records the removed content.

use std::time::Duration;

use crate::Bench;
use crate::corpus::{Corpus, Manifest};
use crate::report::{Figure, Report};
use crate::stage::Stage;
use crate::tools::Tool;

/// Removes one image and its blobs. Other repositories share some of these blobs, and keep their manifests.
pub(super) fn lost_blobs(bench: &Bench) -> anyhow::Result<Report> {
    lost(bench, "lost-blobs", |corpus| {
        let repository = &corpus.repositories[1];
        vec![(repository.name.clone(), tagged(corpus, 1, "v1"))]
    })
}

/// Removes two images from two repositories, and the base layers that both images share.
pub(super) fn lost_shared_blobs(bench: &Bench) -> anyhow::Result<Report> {
    lost(bench, "lost-shared-blobs", |corpus| {
        [1, 4].map(|at| (corpus.repositories[at].name.clone(), tagged(corpus, at, "v1"))).into()
    })
}

type Lost = Vec<(String, Vec<Manifest>)>;

fn lost(bench: &Bench, name: &'static str, choose: fn(&Corpus) -> Lost) -> anyhow::Result<Report> {
    let filled = bench.whole()?;
    let mut report = Report::new(name);
    let lost = choose(&filled.corpus);
    let mut gone = 0;
    for round in 1..=bench.options.rounds {
        let stage = Stage::simple(bench, &filled.registry, Duration::ZERO)?;
        stage.run(&Tool::Transship, 0, &filled.corpus)?;
        let target = &stage.targets[0].registry;
        gone = bench.wait(target.collect(&filled.corpus, &lost))?;
        report.runs.push(stage.run(&Tool::Transship, round, &filled.corpus)?);
    }
    let manifests: usize = lost.iter().map(|(_, manifests)| manifests.len()).sum();
    let refused = |kind: &'static str| {
        report.median("transship", move |run| {
            let refused = run.targets[0].refused.iter().filter(|(refused, _)| refused.starts_with(kind));
            refused.map(|(_, count)| *count).sum::<u64>() as f64
        })
    };
    let puts = refused("manifest PUT");
    let sent = report.median("transship", |run| run.targets[0].count("upload PUT") as f64);
    report.figures = vec![
        Figure::count("manifests refused on the way", puts, manifests as f64),
        Figure::count("blobs sent / blobs lost", sent / gone as f64, 1.0),
    ];
    report.notes.push(format!("{manifests} manifests and {gone} blobs were lost"));
    Ok(report)
}

/// Returns the index of an image, and the manifests of its two platforms.
fn tagged(corpus: &Corpus, at: usize, tag: &str) -> Vec<Manifest> {
    let repository = &corpus.repositories[at];
    let find = |digest: &String| repository.manifests.iter().find(|manifest| manifest.digest == *digest).cloned();
    let index = repository.tags.get(tag).and_then(find);
    let children = index.iter().flat_map(|index| &index.needs).filter_map(find).collect::<Vec<_>>();
    index.into_iter().chain(children).collect()
}
