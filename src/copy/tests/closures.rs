//! Tests of the closure: the content that is written, the order of the writes, and the content that stays unchanged.

use super::content::{bytes, image, index, on, refer};
use super::memory::{Fault, Op};
use super::*;
use crate::oci::MediaType;
use crate::store::ErrorKind;

/// Asserts that `done` contains every manifest of `first` before `then`.
fn assert_before(done: &[String], first: &[&Manifest], then: &str) {
    let place = |subject: &str| done.iter().position(|one| one == subject).unwrap_or_else(|| panic!("{subject}"));
    for manifest in first {
        assert!(place(&manifest.digest().to_string()) < place(then), "{done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn children_are_written_before_tag_with_identical_bytes() {
    let Pair { from, target, to, .. } = pair();
    let (a, b) = (put_image(&from, 1), put_image(&from, 2));
    let inner = index(&[&on("linux/arm64", &b.manifest)]);
    let outer = index(&[&on("linux/amd64", &a.manifest), &inner.descriptor()]);
    from.put_manifest(&inner, None);
    from.put_manifest(&outer, None);

    let arrival = copy(&batch(&from, &[&to]), "v1", &outer).await.unwrap();

    let pushed = target.done(Op::Push);
    assert_eq!(pushed.len(), 4, "each manifest once: {pushed:?}");
    assert_eq!(target.count(Op::Push), 4, "no manifest was rejected because of a missing child");
    assert_eq!(pushed.last().unwrap(), "v1");
    assert_before(&pushed, &[&b.manifest], &inner.digest().to_string());
    assert_eq!(to.tag("v1"), Some(outer.digest()));
    for manifest in [&a.manifest, &b.manifest, &inner, &outer] {
        assert_eq!(to.stored(manifest.digest()).unwrap().bytes(), manifest.bytes());
    }
    assert_eq!((arrival.manifests, arrival.blobs.copied), (4, 6));
    assert_eq!((arrival.digest, arrival.source_digest), (outer.digest(), outer.digest()));
    let blobs: u64 = a.blobs.iter().chain(&b.blobs).map(|blob| blob.size).sum();
    let manifests: usize = [&a.manifest, &b.manifest, &inner, &outer].iter().map(|one| one.bytes().len()).sum();
    assert_eq!(arrival.bytes, blobs + manifests as u64);
    assert_eq!((arrival.source.as_str(), arrival.target.as_str()), ("src/app", "dst/app"));
}

#[tokio::test(start_paused = true)]
async fn tag_is_written_after_last_blob() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    target.always_at(Op::Send, one.blobs[2].digest, Fault::Gate(gate.clone()));
    let batch = batch(&from, &[&to]);
    let copying = tokio::spawn({
        let job = job("v1", &one.manifest, 1);
        async move { batch.copy(job).await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(to.holds_blob(&one.blobs[0]) && to.holds_blob(&one.blobs[1]));
    assert_eq!(target.count(Op::Push), 0);
    gate.add_permits(1);
    arrivals(within(copying).await.unwrap());
    assert_eq!(to.tag("v1"), Some(one.manifest.digest()));
}

#[tokio::test(start_paused = true)]
async fn tag_stays_if_any_blob_or_manifest_fails() {
    for (op, step) in [
        (Op::Has, "looking for blob"),
        (Op::Begin, "opening an upload of blob"),
        (Op::Send, "sending blob"),
        (Op::Push, "writing manifest"),
    ] {
        let Pair { from, target, to, .. } = pair();
        let (old, a, b) = (put_image(&to, 9), put_image(&from, 1), put_image(&from, 2));
        let whole = index(&[&a.manifest.descriptor(), &b.manifest.descriptor()]);
        from.put_manifest(&whole, None);
        to.put_manifest(&old.manifest, Some("v1"));
        let at = if op == Op::Push { b.manifest.digest() } else { b.blobs[1].digest };
        target.always_at(op, at, Fault::Fail(ErrorKind::Refused));

        let error = copy(&batch(&from, &[&to]), "v1", &whole).await.unwrap_err();

        assert_eq!(error.to_string(), format!("target dst/app: {step} {at}: made to fail"));
        assert_eq!(to.tag("v1"), Some(old.manifest.digest()));
        assert_eq!(target.count_at(Op::Push, "v1"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn tag_stays_if_source_manifest_is_unreadable() {
    let Pair { source, from, target, to, .. } = pair();
    let (a, b) = (put_image(&from, 1), put_image(&from, 2));
    let whole = index(&[&a.manifest.descriptor(), &b.manifest.descriptor()]);
    from.put_manifest(&whole, None);
    source.always_at(Op::Manifest, b.manifest.digest(), Fault::Fail(ErrorKind::Denied));
    let error = copy(&batch(&from, &[&to]), "v1", &whole).await.unwrap_err();
    let digest = b.manifest.digest();
    assert_eq!(error.to_string(), format!("source src/app: reading manifest {digest}: made to fail"));
    assert_eq!(target.count(Op::Push), 0);
}

#[tokio::test(start_paused = true)]
async fn tag_stays_if_last_manifest_write_fails() {
    let Pair { from, target, to, .. } = pair();
    let (old, new) = (put_image(&to, 9), put_image(&from, 1));
    to.put_manifest(&old.manifest, Some("v1"));
    target.always_at(Op::Push, "v1", Fault::Fail(ErrorKind::Unavailable));
    let error = copy(&batch(&from, &[&to]), "v1", &new.manifest).await.unwrap_err();
    assert_eq!(error.to_string(), "target dst/app: writing manifest v1: made to fail");
    assert_eq!(to.tag("v1"), Some(old.manifest.digest()));
}

#[tokio::test(start_paused = true)]
async fn artifact_with_empty_config_and_layer_arrives() {
    let Pair { source, from, to, .. } = pair();
    let config = from.put_blob_as(MediaType::new("application/vnd.oci.empty.v1+json"), "{}");
    let empty = from.put_blob("");
    let artifact = refer(&config, &[&config, &empty], None);
    from.put_manifest(&artifact, None);
    let arrival = copy(&batch(&from, &[&to]), "chart", &artifact).await.unwrap();
    assert!(to.holds_blob(&config) && to.holds_blob(&empty));
    assert_eq!(arrival.blobs.copied, 2, "a digest that is listed twice counts once");
    assert_eq!(source.count_at(Op::Blob, config.digest), 1);
}

#[tokio::test(start_paused = true)]
async fn foreign_layer_causes_no_request() {
    let Pair { source, from, target, to } = pair();
    let config = from.put_blob("{}");
    let media_type = MediaType::new("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let foreign = from.put_blob_as(media_type, bytes(7, 100));
    let manifest = image(&config, &[&Descriptor { has_urls: true, ..foreign.clone() }]);
    from.put_manifest(&manifest, None);
    let arrival = copy(&batch(&from, &[&to]), "v1", &manifest).await.unwrap();
    assert_eq!(source.count_at(Op::Blob, foreign.digest), 0);
    for op in [Op::Has, Op::Begin, Op::Mount] {
        assert_eq!(target.count_at(op, foreign.digest), 0, "{op:?}");
    }
    assert_eq!(arrival.blobs.copied + arrival.blobs.found, 1);
}

#[tokio::test(start_paused = true)]
async fn content_at_target_is_found_and_not_sent() {
    let Pair { source, from, to, .. } = pair();
    let one = put_image(&from, 1);
    put_image(&to, 1);
    let arrival = copy(&batch(&from, &[&to]), "v1", &one.manifest).await.unwrap();
    assert_eq!((arrival.blobs.found, arrival.blobs.copied, arrival.blobs.mounted), (3, 0, 0));
    assert_eq!(arrival.bytes, one.manifest.bytes().len() as u64);
    assert_eq!(source.count(Op::Blob), 0);
}

#[tokio::test(start_paused = true)]
async fn digest_is_copied_without_tag() {
    let Pair { from, target, to, .. } = pair();
    let one = put_image(&from, 1);
    let job = CopyJob { tag: None, reference: one.manifest.digest().into(), ..job("x", &one.manifest, 1) };
    let arrival = arrivals(within(batch(&from, &[&to]).copy(job)).await).remove(0);
    assert_eq!((arrival.tag, to.tag_names()), (None, vec![]));
    assert_eq!(target.done(Op::Push), [one.manifest.digest().to_string()]);
}

#[tokio::test(start_paused = true)]
async fn many_tags_of_one_digest_copy_closure_once() {
    let Pair { source, from, target, to } = pair();
    let (a, b) = (put_image(&from, 1), put_image(&from, 2));
    let whole = index(&[&a.manifest.descriptor(), &b.manifest.descriptor()]);
    from.put_manifest(&whole, None);
    let batch = batch(&from, &[&to]);
    let tags = ["1", "1.2", "1.2.3", "latest"];
    let copies = tags.map(|tag| batch.copy(job(tag, &whole, 1)));
    let outcomes = within(futures_util::future::join_all(copies)).await;
    let arrived = arrivals(outcomes.into_iter().flatten().collect());
    assert_eq!(source.count(Op::Manifest), 3);
    assert_eq!(source.count(Op::Blob), 6);
    assert_eq!(target.count(Op::Push), 2 + tags.len());
    assert_eq!(arrived.iter().map(|arrival| arrival.blobs.copied).sum::<u64>(), 6);
    assert!(arrived.iter().all(|arrival| arrival.blobs.copied + arrival.blobs.found == 6));
    assert!(tags.iter().all(|tag| to.tag(tag) == Some(whole.digest())));
}
