//! Mirrors that are wrong in ways that only a script can be, each asked by way of the repository that it mirrors.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};

use super::scripted::{Asked, Server, answer, blob, noise, refusal};
use crate::oci::{Digest, Manifest};
use crate::registry::{MirrorHealth, Mirrored};
use crate::store::{ErrorKind, Source as _, StoreError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// `origin` with one mirror, at which repositories stand below `hub`.
fn mirrored(origin: &Server, mirror: &Server) -> Mirrored {
    let name = format!("{}/hub", mirror.host).parse().unwrap();
    let copy = mirror.registry().repository("hub/a/b".parse().unwrap());
    Mirrored::new(origin.repository(), vec![(name, copy)], Arc::<MirrorHealth>::default())
}

/// A registry with the manifest and with this blob, from any byte on.
async fn honest(content: &'static [u8]) -> Server {
    Server::start(move |asked| {
        if asked.path.contains("/manifests/") {
            return answer(200, &[("content-type", "application/vnd.oci.image.index.v1+json")], MANIFEST);
        }
        let from = asked.header("range").map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap());
        answer(if from.is_some() { 206 } else { 200 }, &[], &content[from.unwrap_or(0)..])
    })
    .await
}

async fn read(source: &Mirrored, content: &[u8]) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = source.blob(&blob(content), 0).await?.try_collect().await?;
    Ok(pieces.concat())
}

fn flowing(content: &'static [u8]) -> Body {
    Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(content))]))
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_not_taken_from_a_mirror_and_not_asked_for_again() {
    let lying = |_: &Asked| answer(200, &[("content-type", "application/json")], "{}");
    let (origin, mirror) = (honest(b"").await, Server::start(lying).await);
    let (source, digest) = (mirrored(&origin, &mirror), Digest::of(MANIFEST));
    for _ in 0..2 {
        let manifest: Manifest = source.manifest(&digest.into()).await.unwrap();
        assert_eq!(manifest.bytes(), MANIFEST);
    }
    assert_eq!(mirror.lines(), [format!("GET /v2/hub/a/b/manifests/{digest}")]);
    assert_eq!(origin.count("GET /v2/a/b/manifests/"), 2);
}

#[tokio::test]
async fn a_tag_is_read_at_the_registry_itself() {
    let (origin, mirror) = (honest(b"").await, honest(b"").await);
    let source = mirrored(&origin, &mirror);
    source.manifest(&"v1".parse::<crate::oci::Tag>().unwrap().into()).await.unwrap();
    assert_eq!((origin.lines(), mirror.lines()), (vec!["GET /v2/a/b/manifests/v1".to_owned()], vec![]));
}

#[tokio::test]
async fn a_blob_that_a_mirror_ends_too_early_goes_on_at_the_next_byte() {
    let content: &'static [u8] = noise(5000).leak();
    let (origin, mirror) =
        (honest(content).await, Server::start(move |_| answer(200, &[], flowing(&content[..3000]))).await);
    assert_eq!(read(&mirrored(&origin, &mirror), content).await.unwrap(), content);
    assert_eq!(origin.asked()[0].header("range"), Some("bytes=3000-"));
}

#[tokio::test]
async fn a_mirror_that_breaks_off_every_blob_rests_longer_each_time() {
    let content: &'static [u8] = noise(5000).leak();
    let (origin, mirror) =
        (honest(content).await, Server::start(move |_| answer(200, &[], flowing(&content[..3000]))).await);
    let source = mirrored(&origin, &mirror);
    // After 30 s it is asked again, and then not for 60 s.
    for (seconds, asked) in [(0, 1), (31, 2), (31, 2), (31, 3), (61, 3), (61, 4)] {
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert_eq!(read(&source, content).await.unwrap(), content);
        assert_eq!(mirror.asked().len(), asked, "{seconds}");
    }
}

#[tokio::test]
async fn wrong_bytes_end_with_an_error_and_come_from_elsewhere_when_they_are_read_again() {
    let content: &'static [u8] = noise(5000).leak();
    let longer: &'static [u8] = noise(6000).leak();
    let other: &'static [u8] = vec![0; 5000].leak();
    for wrong in [longer, other] {
        let (origin, mirror) = (honest(content).await, Server::start(move |_| answer(200, &[], flowing(wrong))).await);
        let source = mirrored(&origin, &mirror);
        let error = read(&source, content).await.unwrap_err();
        assert_eq!((error.kind, error.place), (ErrorKind::Corrupt, format!("{}/hub/a/b", mirror.host)));
        assert_eq!(read(&source, content).await.unwrap(), content);
        assert_eq!((mirror.asked().len(), origin.asked().len()), (1, 1));
    }
}

#[tokio::test]
async fn halves_of_which_one_is_wrong_are_not_asked_for_again_at_whoever_gave_one() {
    let content: &'static [u8] = noise(5000).leak();
    let other: &'static [u8] = vec![0; 3000].leak();
    let (origin, mirror) = (honest(content).await, Server::start(move |_| answer(200, &[], flowing(other))).await);
    let source = mirrored(&origin, &mirror);
    assert_eq!(read(&source, content).await.unwrap_err().kind, ErrorKind::Corrupt);
    assert_eq!(read(&source, content).await.unwrap(), content);
    assert_eq!(mirror.asked().len(), 1);
}

#[tokio::test]
async fn a_mirror_is_asked_once_where_the_registry_would_be_asked_again() {
    let failing = || Server::start(move |_| refusal(503, "UNAVAILABLE"));
    let (origin, mirror) = (failing().await, failing().await);
    let source = mirrored(&origin, &mirror);
    for _ in 0..2 {
        source.manifest(&Digest::of(MANIFEST).into()).await.unwrap_err();
    }
    assert_eq!((mirror.asked().len(), origin.asked().len()), (1, 9), "nine are all that one manifest gets");
}

#[tokio::test]
async fn a_mirror_that_asks_for_patience_is_left_alone_and_holds_nobody_up() {
    let away = |_: &Asked| answer(503, &[("retry-after", "3600")], "");
    let (origin, mirror) = (honest(b"").await, Server::start(away).await);
    let client = mirror.registry();
    let digest = Digest::of(MANIFEST);
    for _ in 0..2 {
        // Each knows nothing of the mirror's rest, as after it has ended.
        let name = format!("{}/hub", mirror.host).parse().unwrap();
        let copy = client.repository("hub/a/b".parse().unwrap());
        let source = Mirrored::new(origin.repository(), vec![(name, copy)], Arc::<MirrorHealth>::default());
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), source.manifest(&digest.into())).await;
        read.expect("nobody waits for the mirror").unwrap();
    }
    assert_eq!((mirror.asked().len(), origin.count("GET /v2/a/b/manifests/")), (1, 2));
}
