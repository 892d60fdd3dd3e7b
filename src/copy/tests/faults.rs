//! Tests of faults: interrupted reads, wrong bytes, and targets that lose content or report content wrongly.

use super::content::{bytes, image, index};
use super::memory::{Fault, Op};
use super::*;
use crate::store::{ErrorKind, Side, Step};

#[tokio::test(start_paused = true)]
async fn interrupted_read_resumes_and_whole_blob_is_verified() {
    let Pair { source, from, target, to } = pair();
    let one = put_image(&from, 1);
    let layer = &one.blobs[1];
    source.once_at(Op::Blob, layer.digest, Fault::BreakAt(2000));
    source.once_at(Op::Blob, layer.digest, Fault::BreakAt(2000));
    copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    let offsets: Vec<u64> = source
        .calls(Op::Blob)
        .iter()
        .filter(|call| call.subject == layer.digest.to_string())
        .map(|call| call.offset)
        .collect();
    assert_eq!(offsets, [0, 2000]);
    assert_eq!(source.read(layer), layer.size, "no byte is read twice");
    assert_eq!(target.count_at(Op::Send, layer.digest), 1, "the target got a single upload");
}

#[tokio::test(start_paused = true)]
async fn read_resumed_with_other_bytes_is_never_committed() {
    let Pair { source, from, target, to } = pair();
    let one = put_image(&from, 1);
    let layer = &one.blobs[1];
    source.rule(Op::Blob, Some(layer.digest.to_string()), Fault::BreakAt(2000), 1);
    let batch = batch(&from, &[&to]);
    // The first read returns 2000 correct bytes and then corrupt bytes.
    let copying = tokio::spawn({
        let job = job("v1", &one.manifest, 1);
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    source.always_at(Op::Blob, layer.digest, Fault::Corrupt);
    let error = within(copying).await.unwrap().remove(0).1.unwrap_err();
    assert_eq!(error.side(), Some(Side::Source));
    assert!(error.to_string().contains("the bytes hash to"), "{error}");
    assert!(!to.holds_blob(layer));
    assert_eq!(target.count(Op::Push), 0);
}

#[tokio::test(start_paused = true)]
async fn source_without_any_byte_fails_the_copy() {
    let Pair { source, from, to, .. } = pair();
    let one = put_image(&from, 1);
    source.always_at(Op::Blob, one.blobs[1].digest, Fault::Fail(ErrorKind::Unavailable));
    let error = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap_err();
    let digest = one.blobs[1].digest;
    assert_eq!(error.to_string(), format!("source src/app: reading blob {digest}: made to fail"));
    assert_eq!(to.tag("v1"), None);
}

#[tokio::test(start_paused = true)]
async fn corrupt_blob_is_never_committed_and_error_names_it() {
    let Pair { source, from, to, .. } = pair();
    let one = put_image(&from, 1);
    let layer = &one.blobs[1];
    source.always_at(Op::Blob, layer.digest, Fault::Corrupt);
    let error = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap_err();
    assert_eq!((error.side(), error.step()), (Some(Side::Source), Some(Step::ReadBlob)));
    assert_eq!(error.subject(), Some(layer.digest.to_string()));
    let start = format!("source src/app: reading blob {}: the bytes hash to sha256:", layer.digest);
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(!to.holds_blob(layer));
    assert_eq!(to.tag("v1"), None);
    assert_eq!(source.count_at(Op::Blob, layer.digest), 1, "wrong bytes are not requested again");
}

#[tokio::test(start_paused = true)]
async fn corrupt_blob_reaches_none_of_several_targets() {
    let source = Registry::new("src");
    let from = source.repository("app");
    let one = put_image(&from, 1);
    let to = ["a", "b", "c"].map(|name| Registry::new(name).repository("app"));
    source.always_at(Op::Blob, one.blobs[1].digest, Fault::Corrupt);
    let outcomes = within(batch(&from, &[&to[0], &to[1], &to[2]]).copy(job("v1", &one.manifest, 3))).await;
    for (at, result) in outcomes {
        assert_eq!(result.unwrap_err().step(), Some(Step::ReadBlob));
        assert!(!to[at].holds_blob(&one.blobs[1]));
    }
}

#[tokio::test(start_paused = true)]
async fn blob_lost_by_target_is_sent_again_in_same_copy() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let copier = Copier::new(64 * MIB);
    copy(&batch_of(&copier, &from, &[&to]), "v1", &one.manifest).await.unwrap();
    to.lose(one.blobs[1].digest);
    to.lose(one.manifest.digest());
    let arrival = copy(&batch_of(&copier, &from, &[&to]), "v2", &one.manifest).await.unwrap();
    assert!(to.holds_blob(&one.blobs[1]));
    assert_eq!((arrival.blobs.copied, arrival.blobs.found), (1, 2));
    assert_eq!(target.count_at(Op::Send, one.blobs[0].digest), 1, "a blob that the target has is not sent again");
}

#[tokio::test(start_paused = true)]
async fn blob_wrongly_reported_as_present_is_sent() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    target.always_at(Op::Has, one.blobs[1].digest, Fault::FalseSuccess);
    let arrival = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert!(to.holds_blob(&one.blobs[1]));
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
    assert_eq!((arrival.blobs.copied, arrival.blobs.found), (3, 0), "each digest counts once");
}

#[tokio::test(start_paused = true)]
async fn blob_wrongly_reported_as_mounted_is_sent() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let copier = Copier::new(64 * MIB);
    let sibling = target.repository("sibling");
    copy(&batch_of(&copier, &from, &[&sibling]), "v1", &one.manifest).await.unwrap();
    target.always_at(Op::Mount, one.blobs[1].digest, Fault::FalseSuccess);
    let arrival = copy(&batch_of(&copier, &from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert!(to.holds_blob(&one.blobs[1]));
    let counts = arrival.blobs;
    assert_eq!((counts.copied, counts.mounted, counts.found), (1, 2, 0), "each digest counts once");
}

#[tokio::test(start_paused = true)]
async fn tags_sharing_a_wrongly_reported_blob_all_arrive() {
    // Each round starts the second copy later. So the rounds combine all steps of the two copies.
    for late in 0..40 {
        let Pair { from, target, to, .. } = pair();
        let layer = from.put_blob(bytes(1, 3000));
        let images = [1, 2].map(|at| image(&from.put_blob(format!("{at}")), &[&layer]));
        images.iter().for_each(|image| from.put_manifest(image, None));
        target.always_at(Op::Has, layer.digest, Fault::FalseSuccess);
        target.always(Op::Push, Fault::Delay(Duration::from_millis(7)));
        target.always(Op::Has, Fault::Delay(Duration::from_millis(5)));
        let batch = batch(&from, &[&to]);
        let second = async {
            tokio::time::sleep(Duration::from_millis(late)).await;
            batch.copy(job("v2", &images[1], 1)).await
        };
        let (one, other) = within(async { tokio::join!(batch.copy(job("v1", &images[0], 1)), second) }).await;
        arrivals(one);
        arrivals(other);
    }
}

#[tokio::test(start_paused = true)]
async fn child_lost_by_target_is_written_again_with_blobs() {
    let Pair { from, target, to, .. } = pair();
    let (a, b) = (put_image(&from, 1), put_image(&from, 2));
    let inner = index(&[&a.manifest.descriptor(), &b.manifest.descriptor()]);
    let outer = index(&[&inner.descriptor()]);
    from.put_manifest(&inner, None);
    from.put_manifest(&outer, None);
    let batch = batch(&from, &[&to]);
    copy(&batch, "v1", &outer).await.unwrap();
    for digest in [inner.digest(), b.manifest.digest(), b.blobs[1].digest] {
        to.lose(digest);
    }
    copy(&batch, "v2", &outer).await.unwrap();
    assert_eq!(to.tag("v2"), Some(outer.digest()));
    assert!(to.stored(inner.digest()).is_some() && to.stored(b.manifest.digest()).is_some());
    assert!(to.holds_blob(&b.blobs[1]));
    assert_eq!(target.count_at(Op::Send, a.blobs[1].digest), 1);
}

#[tokio::test(start_paused = true)]
async fn target_always_missing_content_fails_tag_after_bounded_calls() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    target.always(Op::Push, Fault::Fail(ErrorKind::MissingContent));
    let error = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap_err();
    assert_eq!(error.step(), Some(Step::WriteManifest));
    assert_eq!(target.count(Op::Push), 3);
}

#[tokio::test(start_paused = true)]
async fn interrupted_upload_restarts_from_beginning() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    for _ in 0..2 {
        target.once_at(Op::Send, one.blobs[1].digest, Fault::BreakAt(1500));
    }
    let arrival = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!(arrival.blobs.copied, 3);
    assert!((2..=3).contains(&target.count_at(Op::Send, one.blobs[1].digest)));
}
