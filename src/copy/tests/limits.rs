//! Tests of limits: memory, hostile manifests, and copies that are dropped.

use futures_util::future::join_all;

use super::content::{bytes, image, index};
use super::memory::{Behaviour, Fault, Op};
use super::*;
use crate::copy::event::Event;
use crate::store::Step;

#[tokio::test(start_paused = true)]
async fn transfers_in_flight_never_exceed_memory_limit() {
    for (memory, most) in [(1, 1), (8 * MIB, 2), (12 * MIB, 3)] {
        let source = Registry::with("src", Behaviour { piece: MIB as usize, ..Behaviour::default() });
        let target = Registry::new("dst");
        let (from, to) = (source.repository("app"), target.repository("app"));
        let layers: Vec<Descriptor> = (0..8).map(|seed| from.put_blob(bytes(seed, 4 << 20))).collect();
        let image = image(&from.put_blob("{}"), &layers.iter().collect::<Vec<_>>());
        from.put_manifest(&image, None);
        target.always(Op::Send, Fault::Slow(Duration::from_secs(1)));
        copy(&batch_of(&Copier::new(memory), &from, &[&to]), "v1", &image).await.unwrap();
        assert_eq!(target.most_sending(), most);
    }
}

#[tokio::test(start_paused = true)]
async fn several_targets_share_little_memory_without_deadlock() {
    let source = Registry::with("src", Behaviour { piece: MIB as usize, ..Behaviour::default() });
    let from = source.repository("app");
    let layers: Vec<Descriptor> = (0..4).map(|seed| from.put_blob(bytes(seed, 4 << 20))).collect();
    let image = image(&from.put_blob("{}"), &layers.iter().collect::<Vec<_>>());
    from.put_manifest(&image, None);
    let targets = ["a", "b", "c"].map(Registry::new);
    let to = targets.each_ref().map(|target| target.repository("app"));
    let copier = Copier::new(1);
    let batches = [[&to[0], &to[1], &to[2]], [&to[2], &to[0], &to[1]]].map(|to| batch_of(&copier, &from, &to));
    let copies = batches.iter().map(|batch| batch.copy(job("v1", &image, 3)));
    within(join_all(copies)).await.into_iter().for_each(|outcomes| assert_eq!(arrivals(outcomes).len(), 3));
    let sent: usize = targets.iter().map(|target| target.count(Op::Send)).sum();
    assert_eq!(sent, 3 * 5, "each blob is sent once to each target");
}

#[tokio::test(start_paused = true)]
async fn shared_read_runs_little_ahead_for_any_piece_size() {
    let source = Registry::with("src", Behaviour { piece: MIB as usize, ..Behaviour::default() });
    let targets = ["a", "b"].map(Registry::new);
    let from = source.repository("app");
    let to = targets.each_ref().map(|target| target.repository("app"));
    let layer = from.put_blob(bytes(1, 8 << 20));
    let image = image(&from.put_blob("{}"), &[&layer]);
    from.put_manifest(&image, None);
    targets.iter().for_each(|target| target.always_at(Op::Send, layer.digest, Fault::HangAt(1)));
    let batch = batch(&from, &[&to[0], &to[1]]);
    let copying = tokio::spawn(async move { batch.copy(job("v1", &image, 2)).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(source.read(&layer), 2 * MIB);
    copying.abort();
}

#[tokio::test(start_paused = true)]
async fn mounts_do_not_wait_for_the_memory_of_transfers() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let copier = Copier::new(1);
    copy(&batch_of(&copier, &from, &[&target.repository("sibling")]), "v1", &one.manifest).await.unwrap();
    // Another copy has reserved all memory and hangs.
    let large = from.put_blob(bytes(9, 5 << 20));
    let huge = image(&one.blobs[0], &[&large]);
    from.put_manifest(&huge, None);
    target.always_at(Op::Send, large.digest, Fault::Hang);
    let hanging = tokio::spawn({
        let (batch, job) = (batch_of(&copier, &from, &[&to]), job("huge", &huge, 1));
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(target.sending(), 1);
    let arrival = copy(&batch_of(&copier, &from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(arrival.blobs.copied, 0);
    hanging.abort();
}

/// Puts an image and a chain of `length` indexes above the image. Returns the image first and the top index last.
fn put_chain(from: &Repository, length: usize) -> Vec<Manifest> {
    let mut chain = vec![put_image(from, 1).manifest];
    for _ in 0..length {
        let next = index(&[&chain[chain.len() - 1].descriptor()]);
        from.put_manifest(&next, None);
        chain.push(next);
    }
    chain
}

#[tokio::test(start_paused = true)]
async fn nesting_beyond_depth_limit_is_refused() {
    let Pair { from, target, to, .. } = pair();
    let chain = put_chain(&from, 9);
    copy(&batch(&from, &[&to]), "v1", &chain[8]).await.unwrap();
    let error = copy(&batch(&from, &[&to]), "v2", &chain[9]).await.unwrap_err();
    assert!(matches!(error, CopyError::TooDeep { depth: 8, .. }), "{error}");
    assert_eq!(error.step(), Some(Step::ReadManifest));
    assert_eq!(target.count_at(Op::Push, "v2"), 0);
}

#[tokio::test(start_paused = true)]
async fn deep_chain_that_is_also_listed_flat_is_refused() {
    let Pair { source, from, target, to } = pair();
    let chain = put_chain(&from, 20_000);
    let mut floor = Vec::new();
    for (at, some) in chain.chunks(1000).enumerate() {
        let descriptors: Vec<Descriptor> = some.iter().rev().map(Manifest::descriptor).collect();
        let list = index(&descriptors.iter().collect::<Vec<_>>());
        from.put_manifest(&list, None);
        floor.insert(0, list.descriptor());
        // The delays ensure that the walk first reaches each part of the chain through the flat lists.
        let wait = Duration::from_millis(10 * at as u64);
        source.always_at(Op::Manifest, some[0].digest(), Fault::Delay(wait));
    }
    let top = index(&floor.iter().collect::<Vec<_>>());
    from.put_manifest(&top, None);
    let error = copy(&batch(&from, &[&to]), "v1", &top).await.unwrap_err();
    assert!(matches!(error, CopyError::TooDeep { .. }), "{error}");
    assert_eq!(target.count(Op::Push), 0);
}

#[tokio::test(start_paused = true)]
async fn closure_with_too_many_blobs_is_refused() {
    let Pair { source, from, target, to } = pair();
    let config = from.put_blob("{}");
    let layers: Vec<Descriptor> = (0..33_000u32).map(|at| from.put_blob(at.to_be_bytes().to_vec())).collect();
    let image = image(&config, &layers.iter().collect::<Vec<_>>());
    from.put_manifest(&image, None);
    let error = copy(&batch(&from, &[&to]), "v1", &image).await.unwrap_err();
    let digest = image.digest();
    let expected = format!("source src/app: manifest {digest}: the closure has more than 32768 blobs");
    assert_eq!(error.to_string(), expected);
    assert_eq!((source.count(Op::Blob), target.count(Op::Has)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn lattice_of_indexes_is_walked_once_not_per_path() {
    let Pair { source, from, to, .. } = pair();
    // Ranks of eight manifests. Each index lists the whole rank below, so the number of paths is exponential.
    let mut below: Vec<Descriptor> = (0..8).map(|seed| put_image(&from, seed).manifest.descriptor()).collect();
    for _ in 0..6 {
        below = (0..8)
            .map(|at| {
                let mut children: Vec<&Descriptor> = below.iter().collect();
                children.rotate_left(at);
                let list = index(&children);
                from.put_manifest(&list, None);
                list.descriptor()
            })
            .collect();
    }
    let top = index(&below.iter().collect::<Vec<_>>());
    from.put_manifest(&top, None);
    let arrival = copy(&batch(&from, &[&to]), "v1", &top).await.unwrap();
    assert_eq!(arrival.manifests, 7 * 8 + 1);
    assert_eq!(source.count(Op::Manifest), 7 * 8 + 1);
}

#[tokio::test(start_paused = true)]
async fn closure_with_too_many_bytes_is_refused_after_few_reads() {
    let Pair { source, from, target, to } = pair();
    let config = from.put_blob("{}");
    let padding = "x".repeat(4 << 20);
    let image = image(&config, &[]);
    let body = std::str::from_utf8(image.bytes()).unwrap().trim_start().strip_prefix('{').unwrap();
    let children: Vec<Descriptor> = (0..50)
        .map(|at| {
            let padded = format!("{{\"annotations\":{{\"a{at}\":\"{padding}\"}},{body}");
            let child = Manifest::new(image.media_type().clone(), padded.into());
            from.put_manifest(&child, None);
            child.descriptor()
        })
        .collect();
    let top = index(&children.iter().collect::<Vec<_>>());
    from.put_manifest(&top, None);
    let error = copy(&batch(&from, &[&to]), "v1", &top).await.unwrap_err();
    assert!(error.to_string().contains("bytes of manifests"), "{error}");
    assert!(source.count(Op::Manifest) < 45, "the remaining manifests are not read");
    assert_eq!(target.count(Op::Push), 0);
}

#[tokio::test(start_paused = true)]
async fn image_of_missing_layers_fails_after_the_first() {
    let Pair { source, from, target, to } = pair();
    let config = from.put_blob("{}");
    let layers: Vec<Descriptor> = (0..5000u32)
        .map(|at| {
            let media_type = crate::oci::MediaType::new("application/vnd.oci.image.layer.v1.tar+gzip");
            Descriptor::new(media_type, crate::oci::Digest::of(&at.to_be_bytes()), 4)
        })
        .collect();
    let image = image(&config, &layers.iter().collect::<Vec<_>>());
    from.put_manifest(&image, None);
    let error = copy(&batch(&from, &[&to]), "v1", &image).await.unwrap_err();
    assert!(layers.iter().any(|layer| error.subject() == Some(layer.digest.to_string())), "{error}");
    let (reads, started) = (source.count(Op::Blob), target.count(Op::Begin));
    assert!(reads < 500 && started < 500, "{reads} layers were requested, {started} uploads opened");
}

#[tokio::test(start_paused = true)]
async fn dropped_copy_leaves_nothing_running() {
    for (side, op) in [(0, Op::Manifest), (0, Op::Blob), (1, Op::Has), (1, Op::Begin), (1, Op::Send), (1, Op::Push)] {
        let source = Registry::new("src");
        let targets = ["a", "b"].map(Registry::new);
        let from = source.repository("app");
        let to = targets.each_ref().map(|target| target.repository("app"));
        let one = put_image(&from, 1);
        let faulty = if side == 0 { vec![&source] } else { targets.iter().collect() };
        faulty.iter().for_each(|registry| registry.always(op, Fault::Hang));
        let copier = Copier::new(64 * MIB);
        let batch = batch_of(&copier, &from, &[&to[0], &to[1]]);
        let copying = tokio::spawn({
            let (batch, job) = (batch.clone(), job("v1", &one.manifest, 2));
            async move { batch.copy(job).await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        copying.abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&batch), 1, "{op:?}");
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "{op:?}");
        assert_eq!((source.open_reads(), targets[0].sending(), targets[1].sending()), (0, 0, 0), "{op:?}");
        // The earlier copies have released their claims, so the same blobs arrive now.
        [&source, &targets[0], &targets[1]].iter().for_each(|registry| registry.heal());
        arrivals(within(batch.copy(job("v1", &one.manifest, 2))).await);
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_read_ends_with_the_copy() {
    let source = Registry::new("src");
    let targets = ["a", "b"].map(Registry::new);
    let from = source.repository("app");
    let to = targets.each_ref().map(|target| target.repository("app"));
    let one = put_image(&from, 1);
    source.always_at(Op::Blob, one.blobs[1].digest, Fault::HangAt(2000));
    let batch = batch(&from, &[&to[0], &to[1]]);
    let copying = tokio::spawn({
        let (batch, job) = (batch.clone(), job("v1", &one.manifest, 2));
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(source.open_reads(), 1);
    copying.abort();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(source.open_reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_started_transfer_is_reported_as_ended() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    target.always_at(Op::Send, one.blobs[2].digest, Fault::HangAt(1));
    target.once_at(Op::Send, one.blobs[1].digest, Fault::BreakAt(1));
    let (events, mut received) = mpsc::channel(64);
    let targets = unknown(&[&to]);
    let copier = Copier::new(64 * MIB);
    let batch = Batch::new(&copier, from.clone(), targets, Rules::default(), None, events);
    let copying = tokio::spawn({
        let (batch, job) = (batch.clone(), job("v1", &one.manifest, 1));
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    copying.abort();
    drop(batch);
    let (mut started, mut finished, mut failed) = (0, 0, 0);
    while let Some(event) = received.recv().await {
        match event {
            Event::TransferStarted(_) => started += 1,
            Event::TransferFinished(transfer) => {
                finished += 1;
                assert_eq!(transfer.sent(), transfer.size);
            }
            Event::TransferFailed(..) => failed += 1,
            Event::SignatureArrived(_) | Event::AuxiliaryTagWritten(_) => panic!("the image has no referrers"),
        }
    }
    assert_eq!((started, finished, failed), (4, 2, 2));
}

/// Puts an image whose manifest states this size for its layer. Images with different seeds have different digests.
fn put_image_with_size(from: &Repository, layer: Vec<u8>, size: u64, seed: u8) -> (Manifest, Descriptor) {
    let layer = Descriptor { size, ..from.put_blob(layer) };
    let manifest = image(&from.put_blob(format!("{{\"seed\":{seed}}}")), &[&layer]);
    from.put_manifest(&manifest, None);
    (manifest, layer)
}

#[tokio::test(start_paused = true)]
async fn memory_is_reserved_again_for_corrected_blob_size() {
    let source = Registry::with("src", Behaviour { piece: MIB as usize, ..Behaviour::default() });
    let target = Registry::new("dst");
    let (from, to) = (source.repository("app"), target.repository("app"));
    let (large, layer) = put_image_with_size(&from, bytes(1, 8 << 20), 1, 1);
    let (other, _) = put_image_with_size(&from, bytes(2, 1 << 20), MIB, 2);
    target.always_at(Op::Send, layer.digest, Fault::HangAt(2 * MIB));
    let copier = Copier::new(4 * MIB);
    let copy_of = |tag: &'static str, manifest: &Manifest| {
        let (batch, job) = (batch_of(&copier, &from, &[&to]), job(tag, manifest, 1));
        tokio::spawn(async move { batch.copy(job).await })
    };
    let hanging = copy_of("large", &large);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (target.sending(), target.count_at(Op::Send, layer.digest)),
        (1, 2),
        "once with the size in the manifest, and once with the correct size"
    );
    let waiting = copy_of("other", &other);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(to.tag("other").is_none() && target.sending() == 1, "all memory is reserved");
    hanging.abort();
    arrivals(within(waiting).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn blob_present_in_correct_length_is_not_sent_again() {
    for stated in [0, 10, 4999, 5001, 1 << 40] {
        let Pair { source, from, target, to } = pair();
        let content = bytes(1, 5000);
        let (one, layer) = put_image_with_size(&from, content.clone(), stated, 1);
        to.put_blob(content);
        let arrival = copy(&batch(&from, &[&to]), "v1", &one).await.unwrap();
        assert_eq!((target.count_at(Op::Begin, layer.digest), arrival.blobs.found), (0, 1), "{stated}");
        assert_eq!(source.count_at(Op::Blob, layer.digest), 1, "the source's bytes prove the length");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_bytes_of_equal_length_are_not_trusted() {
    let Pair { source, from, target, to } = pair();
    let content = bytes(1, 5000);
    let (one, layer) = put_image_with_size(&from, content.clone(), 6000, 1);
    to.put_blob(content);
    source.always_at(Op::Blob, layer.digest, Fault::Corrupt);
    let error = copy(&batch(&from, &[&to]), "v1", &one).await.unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    assert!(target.count_at(Op::Begin, layer.digest) > 0 && to.tag("v1").is_none());
}
