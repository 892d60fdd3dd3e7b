//! Tests of uploads to registries that refuse some kinds of uploads. Each behaviour exists at a real registry, and each
//! test counts the requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use transship::oci::{Digest, RepositoryName};
use transship::registry::{Credentials, Flavor, Options, Registry, Repository, Secret, UploadMode, Uploads};
use transship::store::{ErrorKind, StoreError, Target as _, UploadStart, Verified};

use crate::support::images::{self, Family, blob_descriptor, linux, noise, verified};
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

const MIB: usize = 1024 * 1024;

fn registry(server: &Server, options: Options) -> Arc<Registry> {
    Registry::new(server.host().parse().unwrap(), Options { plain_http: true, ..options }).unwrap()
}

fn repository(registry: &Arc<Registry>) -> Repository {
    let name: RepositoryName = "a/b".parse().unwrap();
    registry.repository(name)
}

/// Returns a client that sends chunks of this number of bytes.
fn chunked(server: &Server, chunk: usize) -> Repository {
    let upload = Uploads { mode: UploadMode::Chunked, chunk: Some(chunk as u64) };
    repository(&registry(server, Options { upload, ..Options::default() }))
}

fn automatic(server: &Server) -> Repository {
    repository(&registry(server, Options::default()))
}

async fn send(target: &Repository, bytes: &Bytes) -> Result<(), StoreError> {
    let blob = blob_descriptor(bytes);
    let UploadStart::Session(upload) = target.begin_upload(&blob, None).await? else { panic!("an unrequested mount") };
    upload.send(verified(&blob, bytes.clone())).await
}

/// Sends a blob as a copy does, and retries transient errors. Returns the number of attempts.
async fn push(target: &Repository, bytes: &Bytes) -> usize {
    for attempt in 1.. {
        match send(target, bytes).await {
            Ok(()) => return attempt,
            Err(error) => assert!(error.is_transient() && attempt < 3, "{error}"),
        }
    }
    unreachable!()
}

/// Returns the requests since the last call and clears the log. Each request has a kind such as `upload PATCH 202` and
/// the received bytes of its body.
fn take_requests(server: &Server) -> Vec<(String, u64)> {
    let requests = server.log().requests();
    server.log().clear();
    requests.iter().map(|one| (format!("{} {}", one.kind, one.status), one.received)).collect()
}

fn expected_requests(requests: &[(&str, usize)]) -> Vec<(String, u64)> {
    requests.iter().map(|(kind, bytes)| ((*kind).to_owned(), *bytes as u64)).collect()
}

/// Returns the number of requests of each kind and status since the last call, and clears the log.
fn take_counts(server: &Server) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (kind, _) in take_requests(server) {
        match counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => counts.push((kind, 1)),
        }
    }
    counts
}

fn expected_counts(counts: &[(&str, usize)]) -> Vec<(String, usize)> {
    counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

#[track_caller]
fn expect_stored(server: &Server, bytes: &Bytes) {
    assert!(server.store().blob("a/b", &Digest::of(bytes)).as_ref() == Some(bytes));
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn body_limit_is_hit_once_before_chunked_uploads() {
    let server = Server::start();
    server.set(Fault::UploadBodyLimit(9 * MIB));
    let target = automatic(&server);
    let (first, second) = (noise(1, 10 * MIB), noise(2, 10 * MIB));
    assert_eq!(push(&target, &first).await, 2);
    expect_requests_of_a_fall_back(&server);
    server.log().clear();
    assert_eq!(push(&target, &second).await, 1);
    let chunks = [
        ("upload POST 202", 0),
        ("upload PATCH 202", 8 * MIB),
        ("upload PATCH 202", 2 * MIB),
        ("upload PUT 201", 0),
        ("blob HEAD 200", 0),
    ];
    assert_eq!(take_requests(&server), expected_requests(&chunks));
    assert!(server.store().blob("a/b", &Digest::of(&first)).is_some());
    assert!(server.store().blob("a/b", &Digest::of(&second)).is_some());
}

fn expect_requests_of_a_fall_back(server: &Server) {
    let kinds: Vec<_> = server.log().requests().iter().map(|one| format!("{} {}", one.kind, one.status)).collect();
    assert_eq!(
        kinds,
        [
            "upload POST 202",
            "upload PUT 413",
            "upload POST 202",
            "upload PATCH 202",
            "upload PATCH 202",
            "upload PUT 201",
            "blob HEAD 200"
        ]
    );
}

#[test]
fn body_limit_is_hit_once_in_several_entries() {
    let (source, target) = (Server::start(), Server::start());
    target.set(Fault::UploadBodyLimit(2 * MIB));
    let mut entries = Vec::new();
    for seed in [1, 2, 3] {
        let image = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, seed, 3 * MIB)]);
        image.put(&source, &format!("app{seed}"), Some("v1"));
        let (from, to) = (source.host(), target.host());
        entries.push(format!("- {{name: app{seed}, source: \"{from}/app{seed}\", target: \"{to}/app{seed}\"}}"));
    }
    let site = Site::new();
    let registries = format!(
        "\"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true, upload: {{chunk: 1MiB}}}}",
        source.host(),
        target.host()
    );
    site.configure_fully("status: off, entries_at_once: 1", &registries, &entries.join("\n"));
    site.once();
    let statuses = |kind: &str| target.log().requests_of(kind).iter().map(|request| request.status).collect::<Vec<_>>();
    assert_eq!(statuses("upload PUT").iter().filter(|status| **status == 413).count(), 1);
    // Three chunks have 1 MiB each. One chunk has the bytes that the archive format adds to the layer.
    assert_eq!(statuses("upload PATCH"), [202; 12]);
    assert!([1, 2, 3].iter().all(|seed| target.store().tag(&format!("app{seed}"), "v1").is_some()));
}

#[tokio::test]
async fn configured_upload_mode_is_kept_at_a_body_limit() {
    let server = Server::start();
    server.set(Fault::UploadBodyLimit(2 * MIB));
    let bytes = noise(1, 3 * MIB);
    let upload = Uploads { mode: UploadMode::Monolithic, chunk: None };
    let target = repository(&registry(&server, Options { upload, ..Options::default() }));
    assert_eq!(send(&target, &bytes).await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(server.log().count("upload PATCH"), 0);
    server.set(Fault::NoChunks);
    assert_eq!(send(&chunked(&server, MIB), &bytes).await.unwrap_err().kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn oversized_chunk_is_resent_in_smaller_chunks_in_session() {
    // GHCR accepts chunks of at most 4 MiB.
    let server = Server::start();
    server.set(Fault::ChunkLimit(4 * MIB));
    let upload = Uploads { mode: UploadMode::Chunked, chunk: Some(8 * MIB as u64) };
    let target = repository(&registry(&server, Options { flavor: Some(Flavor::GHCR), upload, ..Options::default() }));
    let bytes = noise(1, 9 * MIB);
    assert_eq!(push(&target, &bytes).await, 1);
    let whole = [("upload POST 202", 1), ("upload PATCH 416", 1), ("upload PATCH 202", 3), ("upload PUT 201", 1)];
    let whole = whole.into_iter().chain([("blob HEAD 200", 1)]).collect::<Vec<_>>();
    assert_eq!(take_counts(&server), expected_counts(&whole), "the first blob in chunks is checked");
    expect_stored(&server, &bytes);
    assert_eq!(push(&target, &noise(2, 9 * MIB)).await, 1);
    let whole = [("upload POST 202", 1), ("upload PATCH 202", 3), ("upload PUT 201", 1)];
    assert_eq!(take_counts(&server), expected_counts(&whole));
}

#[tokio::test]
async fn body_limit_of_one_mebibyte_is_remembered() {
    // 1 MiB is the default body limit of nginx.
    let server = Server::start();
    server.set(Fault::UploadBodyLimit(MIB));
    let target = automatic(&server);
    let bytes = noise(1, 9 * MIB);
    assert_eq!(push(&target, &bytes).await, 2);
    let whole = [
        ("upload POST 202", 2),
        ("upload PUT 413", 1),
        ("upload PATCH 413", 2),
        ("upload PATCH 202", 9),
        ("upload PUT 201", 1),
        ("blob HEAD 200", 1),
    ];
    assert_eq!(take_counts(&server), expected_counts(&whole));
    assert!(server.store().blob("a/b", &Digest::of(&bytes)).as_ref() == Some(&bytes));
}

#[tokio::test]
async fn body_limit_is_detected_despite_a_lost_response() {
    let server = Server::start();
    server.set(Fault::UploadBodyCut(4 * MIB));
    let target = automatic(&server);
    let (first, second) = (noise(1, 9 * MIB), noise(2, 9 * MIB));
    assert_eq!(push(&target, &first).await, 3);
    let log = server.log();
    let counts_by_kind = || ["upload POST", "upload PATCH", "upload PUT", "upload GET"].map(|kind| log.count(kind));
    // Two bodies in one piece and two chunks of 8 MiB failed before the chunks of 4 MiB succeeded.
    assert_eq!(counts_by_kind(), [3, 2 + 3, 2 + 1, 2]);
    log.clear();
    assert_eq!(push(&target, &second).await, 1);
    assert_eq!(counts_by_kind(), [1, 3, 1, 0]);
    assert!(
        [&first, &second].iter().all(|bytes| server.store().blob("a/b", &Digest::of(bytes)).as_ref() == Some(*bytes))
    );
}

#[tokio::test]
async fn registry_without_chunks_gets_monolithic_uploads_after_one_attempt() {
    for fault in [Fault::NoChunks, Fault::ChunkLimit(0)] {
        let server = Server::start();
        server.set(fault);
        let target = repository(&registry(&server, Options { flavor: Some(Flavor::ACR), ..Options::default() }));
        let bytes = [noise(1, 300_000), noise(2, 300_000)];
        assert_eq!((push(&target, &bytes[0]).await, push(&target, &bytes[1]).await), (2, 1));
        assert_eq!(server.log().count("upload PATCH"), 1);
        assert_eq!(server.log().count("upload POST"), 3);
        assert_eq!(server.log().requests_of("upload PUT").iter().map(|put| put.status).collect::<Vec<_>>(), [201, 201]);
        assert!(bytes.iter().all(|bytes| server.store().blob("a/b", &Digest::of(bytes)).as_ref() == Some(bytes)));
    }
}

#[tokio::test]
async fn registry_refusing_both_upload_modes_fails_without_alternating() {
    let server = Server::start();
    server.set(Fault::UploadBodyLimit(2 * MIB));
    server.set(Fault::NoChunks);
    let target = automatic(&server);
    let bytes = noise(1, 3 * MIB);
    assert!(send(&target, &bytes).await.unwrap_err().is_transient());
    for _ in 0..2 {
        assert_eq!(send(&target, &bytes).await.unwrap_err().kind, ErrorKind::Unsupported);
    }
    assert_eq!((server.log().count("upload PUT"), server.log().count("upload PATCH")), (1, 2));
}

#[tokio::test]
async fn broken_chunk_resumes_at_the_offset_of_the_registry() {
    let server = Server::start();
    server.set(Fault::UploadBreaks { after: 30_000, times: 1 });
    let bytes = noise(1, 350_000);
    assert_eq!(push(&chunked(&server, 100_000), &bytes).await, 1);
    let whole = [
        ("upload POST 202", 0),
        ("upload PATCH 500", 30_000),
        ("upload GET 204", 0),
        ("upload PATCH 202", 100_000),
        ("upload PATCH 202", 100_000),
        ("upload PATCH 202", 100_000),
        ("upload PATCH 202", 20_000),
        ("upload PUT 201", 0),
        ("blob HEAD 200", 0),
    ];
    assert_eq!(
        take_requests(&server),
        expected_requests(&whole),
        "no byte is sent twice, and each chunk except the last is full"
    );
    expect_stored(&server, &bytes);
}

#[tokio::test]
async fn failed_chunk_resends_only_the_bytes_not_stored() {
    for (stores, rest) in [(0, 100_000), (40_000, 60_000), (100_000, 0)] {
        let server = Server::start();
        server.set(Fault::ChunkFails { stores, times: 1 });
        let bytes = noise(1, 100_000 + 50_000);
        assert_eq!(push(&chunked(&server, 100_000), &bytes).await, 1);
        let sent: u64 = take_requests(&server).iter().map(|(_, received)| received).sum();
        assert_eq!(sent, 100_000 + rest + 50_000, "{stores}");
        expect_stored(&server, &bytes);
    }
}

#[tokio::test]
async fn repeatedly_failing_chunk_is_given_up() {
    let server = Server::start();
    server.set(Fault::ChunkFails { stores: 0, times: 100 });
    let error = send(&chunked(&server, 100_000), &noise(1, 300_000)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (ErrorKind::Unavailable, "500 Internal Server Error, UNKNOWN: unknown")
    );
    assert_eq!(
        take_counts(&server),
        expected_counts(&[("upload POST 202", 1), ("upload PATCH 500", 4), ("upload GET 204", 4)])
    );
}

#[tokio::test]
async fn lost_upload_session_restarts_the_upload() {
    let server = Server::start();
    server.set(Fault::SessionForgotten { after: 200_000, times: 1 });
    let bytes = noise(1, 300_000);
    assert_eq!(push(&chunked(&server, 100_000), &bytes).await, 2);
    let whole = [
        ("upload POST 202", 2),
        ("upload PATCH 202", 5),
        ("upload PATCH 404", 1),
        ("upload PUT 201", 1),
        ("blob HEAD 200", 1),
    ];
    assert_eq!(take_counts(&server), expected_counts(&whole));
    expect_stored(&server, &bytes);
}

#[tokio::test]
async fn unanswered_commit_is_checked_before_bytes_are_resent() {
    for (target, patches) in [(automatic as fn(&Server) -> Repository, 0), (|server| chunked(server, 200_000), 2)] {
        let server = Server::start();
        server.set(Fault::CommitCut { times: 1 });
        let bytes = noise(1, 300_000);
        assert_eq!(push(&target(&server), &bytes).await, 1);
        let log = server.log();
        let take_requests = ["upload POST", "upload PATCH", "upload PUT", "blob HEAD"].map(|kind| log.count(kind));
        assert_eq!(take_requests, [1, patches, 1, 1]);
        expect_stored(&server, &bytes);
    }
}

#[tokio::test]
async fn upload_broken_before_commit_is_not_checked() {
    let server = Server::start();
    server.set(Fault::UploadBreaks { after: 10_000, times: 1 });
    let bytes = noise(1, 30 * MIB);
    assert!(send(&automatic(&server), &bytes).await.unwrap_err().is_transient());
    assert_eq!(server.log().count("blob HEAD"), 0);
}

#[tokio::test]
async fn token_expired_during_an_upload_costs_no_bytes() {
    let user = ("mirror".to_owned(), "s3cret".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: false, lifetime: Duration::from_secs(300) };
    let server = Arc::new(Server::with(Setup { auth, ..Setup::default() }));
    let password = Secret::Value("s3cret".to_owned().into());
    let credentials = Some(Credentials::Password { username: "mirror".into(), password });
    let upload = Uploads { mode: UploadMode::Chunked, chunk: Some(100_000) };
    let target = repository(&registry(&server, Options { credentials, upload, ..Options::default() }));
    let bytes = noise(1, 350_000);
    let blob = blob_descriptor(&bytes);
    let UploadStart::Session(session) = target.begin_upload(&blob, None).await.unwrap() else {
        panic!("an unrequested mount")
    };
    let (expiring, pieces) = (Arc::clone(&server), bytes.clone());
    let pieces = (0..35).map(move |piece| {
        if piece == 15 {
            expiring.expire_tokens();
        }
        Ok(pieces.slice(piece * 10_000..(piece + 1) * 10_000))
    });
    session.send(Verified::new(stream::iter(pieces).boxed(), blob, "the test")).await.unwrap();
    let whole = [
        ("upload POST 401", 1),
        ("token GET 200", 2),
        ("upload POST 202", 1),
        ("upload PATCH 202", 4),
        ("upload PATCH 401", 1),
        ("upload PUT 201", 1),
        ("blob HEAD 200", 1),
    ];
    let received: u64 = server.log().requests().iter().map(|request| request.received).sum();
    assert_eq!((take_counts(&server), received), (expected_counts(&whole), 350_000));
    expect_stored(&server, &bytes);
}

#[test]
fn chunked_upload_needs_memory_for_one_chunk() {
    let server = Server::start();
    let azure = repository(&registry(&server, Options { flavor: Some(Flavor::ACR), ..Options::default() }));
    assert_eq!(azure.memory_per_upload(), 4 * MIB as u64);
    assert_eq!(
        (chunked(&server, 16 * MIB).memory_per_upload(), automatic(&server).memory_per_upload()),
        (16 * MIB as u64, 0)
    );
}

#[test]
fn broken_read_resumes_within_the_same_upload() {
    for (mode, patches) in [("monolithic", 0), ("chunked, chunk: 1MiB", 4)] {
        let (source, target) = (Server::start(), Server::start());
        let image = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 1, 3 * MIB)]);
        image.put(&source, "app", Some("v1"));
        source.set(Fault::BlobGetBreaks { after: 2_000_000, times: 1 });
        let site = Site::new();
        let (from, to) = (source.host(), target.host());
        let registries =
            format!("\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true, upload: {{mode: {mode}}}}}");
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}");
        site.configure_fully("status: off", &registries, &entry);
        site.once();
        // The configuration and the layer are each opened and committed once.
        let count = |kind: &str| target.log().count(kind);
        assert_eq!((count("upload POST"), count("upload PATCH"), count("upload PUT")), (2, patches, 2), "{mode}");
        let received: u64 =
            target.log().requests().iter().filter(|one| one.kind.starts_with("upload")).map(|one| one.received).sum();
        let size: u64 = image.blobs.iter().map(|blob| blob.len() as u64).sum();
        assert_eq!(received, size, "no byte is sent twice");
        let reads = source.log().requests_of("blob GET");
        let ranges: Vec<_> = reads.iter().filter_map(|read| read.headers.get("range")).collect();
        assert_eq!((reads.len(), ranges), (3, vec![&"bytes=2000000-".to_owned()]));
        assert_eq!(reads.iter().map(|read| read.sent).sum::<u64>(), size, "no byte is read twice");
        assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
    }
}
