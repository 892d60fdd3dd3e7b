//! Tests of single flight: several copies read each blob once and send the blob once to each registry.

use futures_util::future::join_all;

use super::content::{bytes, image};
use super::memory::{Behaviour, Fault, Op};
use super::*;
use crate::store::ErrorKind;

/// Puts `count` images at `from` that share their layers and differ in their configuration.
fn put_siblings(from: &Repository, count: usize) -> (Vec<Manifest>, Vec<Descriptor>) {
    let layers = [from.put_blob(bytes(1, 9000)), from.put_blob(bytes(2, 7000))];
    let images = (0..count).map(|at| {
        let image = image(&from.put_blob(format!("{{\"at\":{at}}}")), &[&layers[0], &layers[1]]);
        from.put_manifest(&image, None);
        image
    });
    (images.collect(), layers.to_vec())
}

#[tokio::test(start_paused = true)]
async fn shared_layers_are_read_and_sent_once_across_entries() {
    let (source, target) = (Registry::new("src"), Registry::new("dst"));
    let copier = Copier::new(64 * MIB);
    let names = ["a", "b", "c"];
    let (mut batches, mut images, mut layers) = (vec![], vec![], vec![]);
    for name in names {
        let from = source.repository(name);
        (images, layers) = put_siblings(&from, 4);
        batches.push((batch_of(&copier, &from, &[&target.repository(name)]), images.clone()));
    }
    // A second entry with the same endpoints.
    batches.push((batch_of(&copier, &source.repository("a"), &[&target.repository("a")]), images));

    let copies = batches.iter().flat_map(|(batch, images)| {
        images.iter().enumerate().map(|(at, image)| batch.copy(job(&format!("v{at}"), image, 1)))
    });
    let arrived = arrivals(within(join_all(copies)).await.into_iter().flatten().collect());

    for layer in &layers {
        assert_eq!(source.read(layer), layer.size);
        assert_eq!(target.count_at(Op::Send, layer.digest), 1);
        assert_eq!(target.count_at(Op::Mount, layer.digest), 2, "the two other repositories mount it");
        assert!(names.iter().all(|name| target.repository(name).holds_blob(layer)));
    }
    assert_eq!(arrived.iter().map(|arrival| arrival.blobs.copied).sum::<u64>(), 2 + 4);
    assert_eq!(arrived.iter().map(|arrival| arrival.blobs.mounted).sum::<u64>(), 2 * (2 + 4));
}

#[tokio::test(start_paused = true)]
async fn failing_owner_hands_blob_to_waiter() {
    let Pair { source, from, target, to } = pair();
    let (images, layers) = put_siblings(&from, 3);
    target.once_at(Op::Send, layers[0].digest, Fault::Fail(ErrorKind::Denied));
    let batch = batch(&from, &[&to]);
    let copies = images.iter().enumerate().map(|(at, image)| batch.copy(job(&format!("v{at}"), image, 1)));
    let outcomes: Vec<Outcome> = within(join_all(copies)).await.into_iter().flatten().collect();
    assert_eq!(outcomes.iter().filter(|(_, result)| result.is_err()).count(), 1);
    assert_eq!(target.count_at(Op::Send, layers[0].digest), 2);
    assert_eq!(to.tag_names().len(), 2);
    assert_eq!(source.count_at(Op::Blob, layers[1].digest), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_mount_sends_through_its_session() {
    let source = Registry::new("src");
    let target = Registry::with("dst", Behaviour { mounts: false, ..Behaviour::default() });
    let from = source.repository("app");
    let one = put_image(&from, 1);
    let copier = Copier::new(64 * MIB);
    for name in ["a", "b"] {
        copy(&batch_of(&copier, &from, &[&target.repository(name)]), "v1", &one.manifest).await.unwrap();
    }
    for blob in &one.blobs {
        assert_eq!(target.count_at(Op::Begin, blob.digest), 1, "for the first repository only");
        assert_eq!(target.count_at(Op::Mount, blob.digest), 1);
        assert!(target.repository("b").holds_blob(blob));
    }
}

#[tokio::test(start_paused = true)]
async fn blobs_within_one_registry_are_mounted_and_never_read() {
    let registry = Registry::new("one");
    let (from, to) = (registry.repository("build"), registry.repository("prod"));
    let one = put_image(&from, 1);
    let arrival = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!((arrival.blobs.mounted, arrival.blobs.copied), (3, 0));
    assert_eq!((registry.count(Op::Blob), registry.count(Op::Has)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiters_take_over_from_dropped_copy() {
    let Pair { from, target, to, .. } = pair();
    let (images, layers) = put_siblings(&from, 2);
    target.once_at(Op::Send, layers[0].digest, Fault::Hang);
    let batch = batch(&from, &[&to]);
    let first = tokio::spawn({
        let (batch, job) = (batch.clone(), job("v0", &images[0], 1));
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = tokio::spawn({
        let (batch, job) = (batch.clone(), job("v1", &images[1], 1));
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(target.count_at(Op::Send, layers[0].digest), 1);
    first.abort();
    arrivals(within(second).await.unwrap());
    assert_eq!((to.tag("v0"), to.tag("v1")), (None, Some(images[1].digest())));
}
