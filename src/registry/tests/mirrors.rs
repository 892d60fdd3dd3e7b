//! Tests of mirrors with faults, which scripted servers simulate. Each mirror is read through [`Mirrored`].

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};

use super::scripted::{Received, Server, answer, blob, noise, refusal};
use crate::oci::{Digest, Manifest};
use crate::registry::{MirrorHealth, Mirrored};
use crate::store::{ErrorKind, Source as _, StoreError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Returns `origin` with one mirror whose repositories are below `hub`.
fn mirrored(origin: &Server, mirror: &Server) -> Mirrored {
    let name = format!("{}/hub", mirror.host).parse().unwrap();
    let copy = mirror.registry().repository("hub/a/b".parse().unwrap());
    Mirrored::new(origin.repository(), vec![(name, copy)], Arc::<MirrorHealth>::default())
}

/// Starts a registry with the manifest and this blob. The registry serves the blob from any offset.
async fn honest(content: &'static [u8]) -> Server {
    Server::start(move |request| {
        if request.path.contains("/manifests/") {
            return answer(200, &[("content-type", "application/vnd.oci.image.index.v1+json")], MANIFEST);
        }
        let from =
            request.header("range").map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap());
        answer(if from.is_some() { 206 } else { 200 }, &[], &content[from.unwrap_or(0)..])
    })
    .await
}

async fn read(source: &Mirrored, content: &[u8]) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = source.blob(&blob(content), 0).await?.try_collect().await?;
    Ok(pieces.concat())
}

fn streamed(content: &'static [u8]) -> Body {
    Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(content))]))
}

#[tokio::test]
async fn wrong_manifest_of_mirror_is_rejected_and_never_retried() {
    let wrong_manifest = |_: &Received| answer(200, &[("content-type", "application/json")], "{}");
    let (origin, mirror) = (honest(b"").await, Server::start(wrong_manifest).await);
    let (source, digest) = (mirrored(&origin, &mirror), Digest::of(MANIFEST));
    for _ in 0..2 {
        let manifest: Manifest = source.manifest(&digest.into()).await.unwrap();
        assert_eq!(manifest.bytes(), MANIFEST);
    }
    assert_eq!(mirror.lines(), [format!("GET /v2/hub/a/b/manifests/{digest}")]);
    assert_eq!(origin.count("GET /v2/a/b/manifests/"), 2);
}

#[tokio::test]
async fn tag_is_read_from_the_registry_itself() {
    let (origin, mirror) = (honest(b"").await, honest(b"").await);
    let source = mirrored(&origin, &mirror);
    source.manifest(&"v1".parse::<crate::oci::Tag>().unwrap().into()).await.unwrap();
    assert_eq!((origin.lines(), mirror.lines()), (vec!["GET /v2/a/b/manifests/v1".to_owned()], vec![]));
}

#[tokio::test]
async fn truncated_mirror_blob_resumes_at_the_next_byte() {
    let content: &'static [u8] = noise(5000).leak();
    let (origin, mirror) =
        (honest(content).await, Server::start(move |_| answer(200, &[], streamed(&content[..3000]))).await);
    assert_eq!(read(&mirrored(&origin, &mirror), content).await.unwrap(), content);
    assert_eq!(origin.requests()[0].header("range"), Some("bytes=3000-"));
}

#[tokio::test]
async fn mirror_that_truncates_blobs_backs_off_longer() {
    let content: &'static [u8] = noise(5000).leak();
    let (origin, mirror) =
        (honest(content).await, Server::start(move |_| answer(200, &[], streamed(&content[..3000]))).await);
    let source = mirrored(&origin, &mirror);
    // The mirror is tried again after 30 s, and then not for 60 s.
    for (seconds, count) in [(0, 1), (31, 2), (31, 2), (31, 3), (61, 3), (61, 4)] {
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert_eq!(read(&source, content).await.unwrap(), content);
        assert_eq!(mirror.requests().len(), count, "{seconds}");
    }
}

#[tokio::test]
async fn wrong_mirror_bytes_fail_then_come_from_registry() {
    let content: &'static [u8] = noise(5000).leak();
    let longer: &'static [u8] = noise(6000).leak();
    let other: &'static [u8] = vec![0; 5000].leak();
    for wrong in [longer, other] {
        let (origin, mirror) = (honest(content).await, Server::start(move |_| answer(200, &[], streamed(wrong))).await);
        let source = mirrored(&origin, &mirror);
        let error = read(&source, content).await.unwrap_err();
        assert_eq!((error.kind, error.place), (ErrorKind::Corrupt, format!("{}/hub/a/b", mirror.host)));
        assert_eq!(read(&source, content).await.unwrap(), content);
        assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 1));
    }
}

#[tokio::test]
async fn partly_wrong_blob_is_not_read_from_contributors_again() {
    let content: &'static [u8] = noise(5000).leak();
    let other: &'static [u8] = vec![0; 3000].leak();
    let (origin, mirror) = (honest(content).await, Server::start(move |_| answer(200, &[], streamed(other))).await);
    let source = mirrored(&origin, &mirror);
    assert_eq!(read(&source, content).await.unwrap_err().kind, ErrorKind::Corrupt);
    assert_eq!(read(&source, content).await.unwrap(), content);
    assert_eq!(mirror.requests().len(), 1);
}

#[tokio::test]
async fn failing_mirror_request_is_not_repeated() {
    let failing = || Server::start(move |_| refusal(503, "UNAVAILABLE"));
    let (origin, mirror) = (failing().await, failing().await);
    let source = mirrored(&origin, &mirror);
    for _ in 0..2 {
        source.manifest(&Digest::of(MANIFEST).into()).await.unwrap_err();
    }
    assert_eq!((mirror.requests().len(), origin.requests().len()), (1, 9), "one manifest gets nine requests in total");
}

#[tokio::test]
async fn throttling_mirror_is_skipped_without_delaying_reads() {
    let throttling = |_: &Received| answer(503, &[("retry-after", "3600")], "");
    let (origin, mirror) = (honest(b"").await, Server::start(throttling).await);
    let client = mirror.registry();
    let digest = Digest::of(MANIFEST);
    for _ in 0..2 {
        // Each source has a new health, so the mirror is tried again, as after the end of a back-off.
        let name = format!("{}/hub", mirror.host).parse().unwrap();
        let copy = client.repository("hub/a/b".parse().unwrap());
        let source = Mirrored::new(origin.repository(), vec![(name, copy)], Arc::<MirrorHealth>::default());
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), source.manifest(&digest.into())).await;
        read.expect("the mirror delays no read").unwrap();
    }
    assert_eq!((mirror.requests().len(), origin.count("GET /v2/a/b/manifests/")), (1, 2));
}
