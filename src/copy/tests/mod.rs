//! Tests of the copy's guarantees with registries in memory. Time is paused: a wait takes no real time, and an endless
//! wait fails immediately.

mod closures;
mod content;
mod fan_out;
mod faults;
mod flights;
mod left_behind;
mod limits;
mod memory;
mod referrers;
mod rules;
mod suspension;
mod untyped;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::memory::{Registry, Repository};
use super::event::Arrival;
use super::{Batch, Contents, Copier, CopyError, CopyJob, ListedTags, Outcome, Rules};
use crate::oci::{Descriptor, Manifest, ManifestRef, Tag};
use crate::store::{Source, Target};

const MIB: u64 = 1024 * 1024;

/// Fails the test if a copy waits for ever.
async fn within<T>(copy: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), copy).await.expect("the copy waits for ever")
}

fn batch_with(
    copier: &Arc<Copier>,
    source: &Arc<Repository>,
    targets: &[&Arc<Repository>],
    rules: Rules,
    source_tags: Option<BTreeSet<Tag>>,
) -> Arc<Batch> {
    let targets = unknown(targets);
    let (events, _) = mpsc::channel(1);
    Batch::new(
        copier,
        source.clone() as Arc<dyn Source>,
        targets,
        rules,
        source_tags.map(|tags| ListedTags::read(&tags)),
        events,
    )
}

fn unknown(targets: &[&Arc<Repository>]) -> Vec<(Arc<dyn Target>, Contents)> {
    targets.iter().map(|target| ((*target).clone() as Arc<dyn Target>, Contents::Unknown)).collect()
}

fn batch_of(copier: &Arc<Copier>, source: &Arc<Repository>, targets: &[&Arc<Repository>]) -> Arc<Batch> {
    batch_with(copier, source, targets, Rules::default(), None)
}

/// Creates a batch with its own copier.
fn batch(source: &Arc<Repository>, targets: &[&Arc<Repository>]) -> Arc<Batch> {
    batch_of(&Copier::new(64 * MIB), source, targets)
}

fn with_referrers(source: &Arc<Repository>, targets: &[&Arc<Repository>]) -> Arc<Batch> {
    let rules = Rules { referrers: true, ..Rules::default() };
    batch_with(&Copier::new(64 * MIB), source, targets, rules, None)
}

/// Returns a copy job that copies a manifest under a tag to the first `targets` targets.
fn job(tag: &str, manifest: &Manifest, targets: usize) -> CopyJob {
    let tag: Tag = tag.parse().unwrap();
    CopyJob {
        reference: ManifestRef::Tag(tag.clone()),
        digest: manifest.digest(),
        tag: Some(tag),
        targets: (0..targets).map(|at| (at, None)).collect(),
    }
}

async fn copy(batch: &Arc<Batch>, tag: &str, manifest: &Manifest) -> Result<Arrival, CopyError> {
    let mut outcomes = within(batch.copy(job(tag, manifest, 1))).await;
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0).1
}

/// Returns the arrival at each target. Panics if a copy failed.
fn arrivals(outcomes: Vec<Outcome>) -> Vec<Arrival> {
    outcomes.into_iter().map(|(_, result)| result.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// Source repository `src/app` and target repository `dst/app`.
struct Pair {
    source: Arc<Registry>,
    from: Arc<Repository>,
    target: Arc<Registry>,
    to: Arc<Repository>,
}

fn pair() -> Pair {
    let (source, target) = (Registry::new("src"), Registry::new("dst"));
    let (from, to) = (source.repository("app"), target.repository("app"));
    Pair { source, from, target, to }
}

/// Image at the source with a configuration and two layers. Images with different seeds have different blobs.
struct Image {
    manifest: Manifest,
    blobs: Vec<Descriptor>,
}

fn put_image(at: &Repository, seed: u8) -> Image {
    let config = at.put_blob(format!("{{\"seed\":{seed}}}"));
    let layers = [at.put_blob(content::bytes(seed, 5000)), at.put_blob(content::bytes(seed ^ 0x80, 3000))];
    let manifest = content::image(&config, &[&layers[0], &layers[1]]);
    at.put_manifest(&manifest, Some(&format!("v{seed}")));
    Image { manifest, blobs: vec![config, layers[0].clone(), layers[1].clone()] }
}
