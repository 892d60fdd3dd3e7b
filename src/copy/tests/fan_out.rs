//! Tests of the fan-out: one read feeds several targets, and no target delays its siblings.

use super::content::{bytes, image};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::memory::{Behaviour, Fault, Op};
use super::*;
use crate::store::ErrorKind;

struct Three {
    source: Arc<Registry>,
    from: Arc<Repository>,
    targets: Vec<Arc<Registry>>,
    to: Vec<Arc<Repository>>,
    layer: Descriptor,
    image: Manifest,
}

/// Source with one large layer, and three targets.
fn three() -> Three {
    let source = Registry::new("src");
    let from = source.repository("app");
    let layer = from.put_blob(bytes(1, 200_000));
    let image = image(&from.put_blob("{}"), &[&layer]);
    from.put_manifest(&image, None);
    let targets: Vec<_> = ["t0", "t1", "t2"].map(Registry::new).into();
    let to = targets.iter().map(|target| target.repository("app")).collect();
    Three { source, from, targets, to, layer, image }
}

impl Three {
    fn batch(&self) -> Arc<Batch> {
        batch(&self.from, &self.to.iter().collect::<Vec<_>>())
    }
}

#[tokio::test(start_paused = true)]
async fn one_read_feeds_three_targets() {
    let three = three();
    let arrived = arrivals(within(three.batch().copy(job("v1", &three.image, 3))).await);
    assert_eq!(three.source.read(&three.layer), three.layer.size);
    assert_eq!(three.source.count_at(Op::Blob, three.layer.digest), 1);
    for (arrival, to) in arrived.iter().zip(&three.to) {
        assert_eq!(arrival.blobs.copied, 2);
        assert_eq!(to.tag("v1"), Some(three.image.digest()));
    }
    assert_eq!(three.source.count(Op::Manifest), 1);
}

#[tokio::test(start_paused = true)]
async fn slow_target_falls_behind_and_resumes_with_own_read() {
    let three = three();
    three.targets[1].always_at(Op::Send, three.layer.digest, Fault::Slow(Duration::from_secs(1)));
    let started = tokio::time::Instant::now();
    let batch = three.batch();
    let copying = tokio::spawn({
        let job = job("v1", &three.image, 3);
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(three.to[0].tag("v1"), Some(three.image.digest()));
    assert_eq!(three.to[2].tag("v1"), Some(three.image.digest()));
    assert_eq!(three.to[1].tag("v1"), None);
    arrivals(within(copying).await.unwrap());
    assert!(started.elapsed() > Duration::from_secs(190), "each piece took a second");
    let reads = three.source.calls(Op::Blob);
    let reads: Vec<u64> =
        reads.iter().filter(|call| call.subject == three.layer.digest.to_string()).map(|call| call.offset).collect();
    assert_eq!(reads.len(), 2);
    assert!(reads[1] > 0, "the separate read starts at the position of the target: {reads:?}");
    assert_eq!(three.source.read(&three.layer), three.layer.size + (three.layer.size - reads[1]));
}

#[tokio::test(start_paused = true)]
async fn hanging_target_does_not_delay_siblings() {
    for op in [Op::Has, Op::Begin, Op::Send, Op::Push] {
        let three = three();
        three.targets[0].always(op, Fault::Hang);
        let (batch, job) = (three.batch(), job("v1", &three.image, 3));
        let copying = tokio::spawn(async move { batch.copy(job).await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(three.to[0].tag("v1"), None);
        for to in &three.to[1..] {
            assert_eq!(to.tag("v1"), Some(three.image.digest()), "{op:?}");
        }
        assert_eq!(three.source.count_at(Op::Blob, three.layer.digest), 1, "{op:?}");
        copying.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn failing_target_does_not_fail_siblings() {
    for op in [Op::Has, Op::Begin, Op::Send, Op::Push] {
        let three = three();
        three.targets[1].always(op, Fault::Fail(ErrorKind::Denied));
        let outcomes = within(three.batch().copy(job("v1", &three.image, 3))).await;
        let failed: Vec<usize> = outcomes.iter().filter(|(_, result)| result.is_err()).map(|(at, _)| *at).collect();
        assert_eq!(failed, [1], "{op:?}");
        assert_eq!(three.source.read(&three.layer), three.layer.size, "{op:?}");
        let tags: Vec<bool> = three.to.iter().map(|to| to.tag("v1").is_some()).collect();
        assert_eq!(tags, [true, false, true], "{op:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn interrupted_target_gets_blob_again_siblings_once() {
    let three = three();
    three.targets[2].once_at(Op::Send, three.layer.digest, Fault::BreakAt(50_000));
    arrivals(within(three.batch().copy(job("v1", &three.image, 3))).await);
    assert_eq!(three.targets[2].count_at(Op::Send, three.layer.digest), 2);
    assert_eq!(three.targets[0].count_at(Op::Send, three.layer.digest), 1);
    assert_eq!(three.source.count_at(Op::Blob, three.layer.digest), 2);
}

#[tokio::test(start_paused = true)]
async fn only_targets_of_order_are_written() {
    let three = three();
    let job = CopyJob { targets: vec![(2, None)], ..job("v1", &three.image, 3) };
    let outcomes = within(three.batch().copy(job)).await;
    assert_eq!(outcomes[0].0, 2);
    assert_eq!((three.to[0].tag("v1"), three.to[2].tag("v1")), (None, Some(three.image.digest())));
    assert_eq!(three.targets[0].count(Op::Has), 0);
}

#[tokio::test(start_paused = true)]
async fn batches_with_crossing_targets_do_not_deadlock() {
    for memory in [MIB, 64 * MIB] {
        let three = three();
        let copier = Copier::new(memory);
        let (forth, back) = ([&three.to[0], &three.to[1]], [&three.to[1], &three.to[0]]);
        let (first, second) = (batch_of(&copier, &three.from, &forth), batch_of(&copier, &three.from, &back));
        // Each registry delays its first response. So each batch gets one late response.
        for target in &three.targets[..2] {
            target.once_at(Op::Has, three.layer.digest, Fault::Delay(Duration::from_millis(100)));
        }
        let both =
            async { tokio::join!(first.copy(job("v1", &three.image, 2)), second.copy(job("v2", &three.image, 2))) };
        let (one, other) = within(both).await;
        assert_eq!(arrivals(one).len() + arrivals(other).len(), 4);
        for target in &three.targets[..2] {
            assert_eq!(target.count_at(Op::Send, three.layer.digest), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn blob_is_sent_only_to_targets_without_it() {
    let three = three();
    three.to[0].put_blob(bytes(1, 200_000));
    let arrived = arrivals(within(three.batch().copy(job("v1", &three.image, 3))).await);
    assert_eq!((arrived[0].blobs.found, arrived[0].blobs.copied), (1, 1));
    assert_eq!((arrived[1].blobs.found, arrived[1].blobs.copied), (0, 2));
    assert_eq!(three.targets[0].count_at(Op::Begin, three.layer.digest), 0);
}

#[tokio::test(start_paused = true)]
async fn one_read_feeds_targets_of_different_latency_with_little_memory() {
    let source = Registry::new("src");
    let from = source.repository("app");
    let layers: Vec<Descriptor> = (0..12).map(|seed| from.put_blob(bytes(seed, 4 << 20))).collect();
    let image = image(&from.put_blob("{}"), &layers.iter().collect::<Vec<_>>());
    from.put_manifest(&image, None);
    let targets = ["t0", "t1", "t2"].map(Registry::new);
    let to = targets.each_ref().map(|target| target.repository("app"));
    for (target, wait) in targets.iter().zip([0, 60, 120]) {
        target.always(Op::Has, Fault::Delay(Duration::from_millis(wait)));
    }
    let batch = batch_of(&Copier::new(24 * MIB), &from, &[&to[0], &to[1], &to[2]]);
    arrivals(within(batch.copy(job("v1", &image, 3))).await);
    let reads: u64 = layers.iter().map(|layer| source.read(layer)).sum();
    assert_eq!(reads, layers.iter().map(|layer| layer.size).sum::<u64>());
}

/// Copy of an image with 240 layers of 132 to 249 KiB to several targets. Each target needs a given time per piece.
struct Many {
    source: Arc<Registry>,
    targets: Vec<Arc<Registry>>,
    layers: Vec<Descriptor>,
    outcomes: BoxStream<'static, Outcome>,
}

fn layer(seed: u32) -> Vec<u8> {
    seed.to_be_bytes().repeat(33 * 1024 + seed as usize * 73 % 30_000)
}

fn many(milliseconds: &[u64]) -> Many {
    let source = Registry::with("src", Behaviour { piece: 4 * 1024, ..Behaviour::default() });
    let from = source.repository("app");
    let layers: Vec<Descriptor> = (0..240u32).map(|seed| from.put_blob(layer(seed))).collect();
    let image = image(&from.put_blob("{}"), &layers.iter().collect::<Vec<_>>());
    from.put_manifest(&image, None);
    let targets: Vec<_> = (0..milliseconds.len()).map(|at| Registry::new(&format!("t{at}"))).collect();
    for (target, milliseconds) in targets.iter().zip(milliseconds) {
        target.always(Op::Send, Fault::Slow(Duration::from_millis(*milliseconds)));
    }
    let to: Vec<_> = targets.iter().map(|target| target.repository("app")).collect();
    let batch = batch_of(&Copier::new(9 * MIB), &from, &to.iter().collect::<Vec<_>>());
    let outcomes = batch.copy_each(job("v1", &image, to.len()));
    Many { source, targets, layers, outcomes }
}

impl Many {
    /// Waits until the first two targets have the image, and returns the elapsed time.
    async fn wait_for_two(&mut self) -> Duration {
        let started = tokio::time::Instant::now();
        for _ in 0..2 {
            let (at, outcome) = within(self.outcomes.next()).await.unwrap();
            assert!(at < 2 && outcome.is_ok(), "{at}: {outcome:?}");
        }
        started.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn target_at_tenth_of_speed_hardly_delays_siblings() {
    let alone = many(&[40, 40]).wait_for_two().await;
    let mut three = many(&[40, 40, 400]);
    let beside = three.wait_for_two().await;
    assert!(beside < alone * 6 / 5, "{alone:?} alone, {beside:?} with a slow sibling");
    // The copy reads the source separately for the slow target, with at most four reads at the same time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((three.source.open_reads(), three.targets[2].sending()), (4, 4));
    let (at, outcome) = within(three.outcomes.next()).await.unwrap();
    assert_eq!((at, outcome.unwrap().blobs.copied), (2, 241));
    let read: u64 = three.layers.iter().map(|layer| three.source.read(layer)).sum();
    let size: u64 = three.layers.iter().map(|layer| layer.size).sum();
    assert!(read <= 2 * size, "one read for the first two targets, and at most one for the slow target");
}

#[tokio::test(start_paused = true)]
async fn targets_of_similar_speed_share_every_read() {
    let mut three = many(&[40, 50, 60]);
    while let Some((_, outcome)) = within(three.outcomes.next()).await {
        outcome.unwrap();
    }
    for layer in &three.layers {
        assert_eq!(three.source.read(layer), layer.size);
    }
}

#[tokio::test(start_paused = true)]
async fn siblings_wait_once_for_late_target_and_share_after_it_catches_up() {
    let mut three = many(&[1, 1, 1]);
    three.targets[2].always(Op::Begin, Fault::Delay(Duration::from_secs(20)));
    let took = three.wait_for_two().await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    within(three.outcomes.next()).await.unwrap().1.unwrap();
    let Many { source, targets, .. } = three;
    targets[2].heal();
    let (from, layer) = (source.repository("app"), source.repository("app").put_blob(layer(1000)));
    let next = image(&layer, &[]);
    from.put_manifest(&next, None);
    let to: Vec<_> = targets.iter().map(|target| target.repository("app")).collect();
    let batch = batch(&from, &to.iter().collect::<Vec<_>>());
    arrivals(within(batch.copy(job("v2", &next, 3))).await);
    assert_eq!(source.read(&layer), layer.size);
}
